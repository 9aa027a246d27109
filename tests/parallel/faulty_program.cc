// A program with a fault, for tests of what the other ranks make of it:
//   faulty_program none|hang|throw|kill|leave|mismatch|escape
// The fault is in rank 1. main is as every program's should be: catch, say which rank, abort.

#include <csignal>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <fmt/format.h>

#include "core/base/errors.h"
#include "parallel/world.h"

namespace switchyard::parallel {
namespace {

void show_fault(const std::string& fault, Communicator& world) {
  if (fault == "hang") std::this_thread::sleep_for(std::chrono::hours(1));
  if (fault == "throw") throw DataError("tokens are missing");
  if (fault == "kill") std::raise(SIGKILL);
  if (fault == "leave") std::_Exit(0);
  if (fault == "mismatch") world.barrier("end of step");
}

void run(const std::string& fault, Communicator& world) {
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
