// A program with a fault, for tests of what the other ranks make of it:
//   faulty_program none|hang|throw|kill|leave|mismatch|escape|stage_hang|stage_kill
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

void show_fault(const std::string& fault, Communicator& world) {
  if (fault.ends_with("hang")) std::this_thread::sleep_for(std::chrono::hours(1));
  if (fault == "throw") throw DataError("tokens are missing");
  if (fault.ends_with("kill")) std::raise(SIGKILL);
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
  if (world.rank() == 1) show_fault(fault, world);
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
