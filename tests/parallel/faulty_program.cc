// A program with a fault, for tests of what the other ranks make of it:
//   faulty_program
//   none|hang|throw|kill|leave|mismatch|escape|exchange|reduce|barrier|stage_hang|stage_kill
// The fault is in rank 1. main is as every program's should be: catch, say which rank, abort.

#include <csignal>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <fmt/format.h>

#include "core/base/errors.h"
#include "parallel/pipeline.h"
#include "parallel/world.h"

namespace switchyard::parallel {
namespace {

// Dies with an operation under way whose data the others need.
void die_within(const std::string& fault, Communicator& world) {
  constexpr int64_t kElements = 4 << 20;  // more than a transport takes without the receiver
  std::vector<float> from(kElements * world.size()), to(from.size());
  const std::vector<int64_t> one_row(world.size(), 1);
  const auto work = fault == "exchange"
                        ? world.start_all_to_all_v(from.data(), to.data(),
                                                   {one_row, one_row, kElements * 4}, "dispatch")
                        : world.start_reduce_scatter(from.data(), to.data(), kElements,
                                                     DType::kFloat32, ReduceOp::kSum, "gradients");
  if (world.rank() == 1) std::raise(SIGKILL);
  work->wait();
}

void show_fault(const std::string& fault, Communicator& world) {
  if (fault.ends_with("hang")) std::this_thread::sleep_for(std::chrono::hours(1));
  if (fault == "throw") throw DataError("tokens are missing");
  if (fault.ends_with("kill") || fault == "barrier") std::raise(SIGKILL);
  if (fault == "leave") std::_Exit(0);
  if (fault == "mismatch") world.barrier("end of step");
}

// The rank of the fault is a stage that has taken the rows and does not send them on.
void pass_rows(const std::string& fault, Communicator& world) {
  const Pipeline pipeline(world);
  int64_t row = 0;
  if (!pipeline.is_first()) pipeline.rows_in().receive(&row, sizeof row, "rows");
  if (world.rank() == 1) show_fault(fault, world);
  if (!pipeline.is_last()) pipeline.rows_out().start_send(&row, sizeof row, "rows")->wait();
}

void run(const std::string& fault, Communicator& world) {
  if (fault.starts_with("stage_")) return pass_rows(fault, world);
  const auto pair = world.split(world.rank() / 2, fmt::format("expert[{}]", world.rank() / 2));
  pair->barrier("start");
  if (fault == "exchange" || fault == "reduce") die_within(fault, world);
  if (world.rank() == 1) show_fault(fault, world);
  if (fault == "barrier") world.barrier("end of step");
  const int64_t value = world.rank();
  std::vector<int64_t> all(world.size());
  world.all_gather(&value, all.data(), sizeof value, "layer 3 counts");
  world.barrier("done");
}

}  // namespace
}  // namespace switchyard::parallel

int main(int argc, char** argv) {
  using namespace switchyard;
  if (argc != 2) return static_cast<int>(ExitCode::kConfig);
  try {
    const parallel::World world = parallel::start_world(2);
    const int rank = world.communicator->rank();
    const std::string fault = argv[1];
    if (fault == "escape" && rank == 1) throw std::runtime_error("past every handler");
    try {
      parallel::run(fault, *world.communicator);
    } catch (const Error& error) {
      world.communicator->abort(static_cast<int>(error.code()),
                                fmt::format("[rank {}] {}", rank, error.what()));
    }
  } catch (const Error& error) {
    fmt::print(stderr, "{}\n", error.what());
    return static_cast<int>(error.code());
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return static_cast<int>(ExitCode::kBug);
  }
}
