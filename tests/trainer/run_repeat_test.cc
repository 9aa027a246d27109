// The same run again, on the same machine, is the same run: no stopwatch decides a number.

#include <atomic>
#include <thread>
#include <vector>

#include <fmt/format.h>

#include "tests/trainer/run_fixture.h"

namespace switchyard::testing {
namespace {

// Keeps every core busy, so that whatever a run measures of itself comes out differently each time.
class BusyCores {
 public:
  BusyCores() {
    const unsigned threads = std::max(1u, std::thread::hardware_concurrency());
    for (unsigned i = 0; i < threads; ++i) {
      threads_.emplace_back([this](const std::stop_token& stop) {
        while (!stop.stop_requested()) ++work_;
      });
    }
  }

 private:
  std::atomic<uint64_t> work_ = 0;
  std::vector<std::jthread> threads_;  // last: they end before the rest goes
};

struct Repeat : RunTest {};

// Matrices that are large enough for every library that may multiply them.
const Arguments kWide{"model.d_model=256", "model.moe.d_ff=256", "train.steps=3",
                      "train.global_batch=4"};

TEST_F(Repeat, GivesTheSameBytesEightTimesBesideBusyCores) {
  const BusyCores busy;
  for (int i = 0; i < 8; ++i) {
    const std::string run = fmt::format("run{}", i);
    expect_trained({.run = run, .threads = 2, .set = kWide});
    expect_same_end(run, "run0", 3);
  }
}

}  // namespace
}  // namespace switchyard::testing
