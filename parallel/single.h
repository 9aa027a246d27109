#pragma once
// The communicator of a run on one rank: every operation is a copy or nothing.

#include <memory>
#include <string>

#include "parallel/communicator.h"

namespace switchyard::parallel {

std::unique_ptr<Communicator> make_single(const std::string& name = "world");

}  // namespace switchyard::parallel
