// The main of tests with several ranks; see dist.h.

#include <exception>
#include <string>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "core/base/errors.h"
#include "parallel/world.h"
#include "tests/testing/dist.h"
#include "tests/testing/skip_policy.h"

namespace switchyard::testing {
namespace {

constexpr double kTimeoutSeconds = 60;

// GoogleTest's test bodies take no arguments, so this pointer is the one way to reach them.
const parallel::World* the_world = nullptr;

std::string describe(const ::testing::TestPartResult& result) {
  const auto* test = ::testing::UnitTest::GetInstance()->current_test_info();
  return fmt::format("[rank {}] {}.{}: {}:{}: {}", world().rank(),
                     test ? test->test_suite_name() : "", test ? test->name() : "",
                     result.file_name() ? result.file_name() : "", result.line_number(),
                     result.summary());
}

// Rank 0 prints and writes all that GoogleTest does, the others print their failures only. No
// collectives here: the other ranks do not come.
class FailureListener : public ::testing::EmptyTestEventListener {
  void OnTestPartResult(const ::testing::TestPartResult& result) override {
    if (!result.failed()) return;
    const std::string text = describe(result);
    if (result.fatally_failed()) world().abort(1, text);
    if (world().rank() > 0) fmt::print(stderr, "{}\n", text);
  }
};

int run_tests() {
  auto& listeners = ::testing::UnitTest::GetInstance()->listeners();
  if (world().rank() > 0) {
    delete listeners.Release(listeners.default_result_printer());
    delete listeners.Release(listeners.default_xml_generator());
  }
  listeners.Append(new FailureListener);  // GoogleTest takes ownership
  const int code = RUN_ALL_TESTS();
  return static_cast<int>(world().all_reduce(code, parallel::ReduceOp::kMax, "exit code"));
}

}  // namespace

parallel::Communicator& world() { return *the_world->communicator; }
const parallel::MpiSession& session() { return *the_world->session; }

}  // namespace switchyard::testing

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  switchyard::testing::forbid_unlisted_skips();
  const auto world = switchyard::parallel::start_world(switchyard::testing::kTimeoutSeconds);
  if (world.session == nullptr) {
    fmt::print(stderr, "Run this with scripts/launch -n RANKS {}\n", argv[0]);
    return 2;
  }
  switchyard::testing::the_world = &world;
  try {
    return switchyard::testing::run_tests();
  } catch (const std::exception& error) {
    world.communicator->abort(
        1, fmt::format("[rank {}] {}", world.communicator->rank(), error.what()));
  }
}
