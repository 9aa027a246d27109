// Token exchange over threads; exchange_dist_test.cc does the same with MPI processes.

#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "parallel/thread.h"
#include "tests/parallel/exchange_suite.h"

namespace switchyard::parallel {
namespace {

class ThreadExchange : public testing::TestWithParam<std::tuple<exchange_suite::Behaviour, int>> {};

TEST_P(ThreadExchange, ConformsToTheSuite) {
  const auto& [behaviour, size] = GetParam();
  ThreadGroup(size).run([&](Communicator& world) {
    at::set_num_threads(1);
    behaviour.check(world);
  });
}

INSTANTIATE_TEST_SUITE_P(Suite, ThreadExchange,
                         testing::Combine(testing::ValuesIn(exchange_suite::behaviours()),
                                          testing::Values(1, 2, 4)),
                         [](const auto& test) {
                           return fmt::format("{}_{}ranks", std::get<0>(test.param).name,
                                              std::get<1>(test.param));
                         });

}  // namespace
}  // namespace switchyard::parallel
