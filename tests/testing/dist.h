#pragma once
// For tests under scripts/launch: the world that dist_main.cc has made. Every rank runs every test,
// and prints its own failures. A fatal failure or an exception on one rank ends the whole job at
// once, because the others may be waiting for that rank: prefer EXPECT_ to ASSERT_, and decide
// GTEST_SKIP alike on all ranks.

#include "parallel/communicator.h"
#include "parallel/mpi/mpi.h"

namespace switchyard::testing {

parallel::Communicator& world();
const parallel::MpiSession& session();

}  // namespace switchyard::testing
