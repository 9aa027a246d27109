#include "scripts/commands/job.h"

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <thread>

#include <fmt/format.h>

#include "core/base/log.h"
#include "core/config/print.h"
#include "core/config/reader.h"
#include "core/tensor/runtime.h"
#include "models/catalog/catalog.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/products.h"

namespace switchyard::commands {
namespace {

constexpr char kOutOfMemory[] =
    "out of memory: the system refused to give this process more; in training raise "
    "train.accumulation, set train.recompute: RECOMPUTE_LAYER, or take fewer ranks on this machine "
    "(`switchyard inspect` shows what a run needs); in generation shorten the prompt";
constexpr char kConfigFollows = 'C', kErrorFollows = 'E';

ExitCode fail(parallel::Communicator& world, ExitCode code, const std::string& text) {
  std::fflush(stdout);
  const std::string line = fmt::format("error[{}]: {}", static_cast<int>(code), text);
  if (world.size() == 1) {
    std::fputs((line + "\n").c_str(), stderr);
    return code;
  }
  // Most errors come to all ranks alike. Rank 0's is then printed alone: its abort ends the others
  // before their turn. But whoever misses a peer speaks at once, since mpirun is about to kill it.
  if (world.rank() > 0 && code != ExitCode::kPeer)
    std::this_thread::sleep_for(std::chrono::seconds(1));
  // The others may be waiting for this rank.
  world.abort(static_cast<int>(code),
              fmt::format("[rank {}/{}] {}", world.rank(), world.size(), line));
  return code;
}

}  // namespace

ExitCode run_job(double timeout_seconds, const std::function<ExitCode(parallel::World&)>& body) {
  parallel::World world = parallel::start_world(timeout_seconds);
  start_log(world.communicator->rank(), world.communicator->size(), "");
  try {
    const ExitCode code = body(world);
    world.communicator->barrier("end");
    return code;
  } catch (const Error& error) {
    return fail(*world.communicator, error.code(), error.what());
  } catch (const std::exception& error) {
    if (is_out_of_memory(error)) return fail(*world.communicator, ExitCode::kStorage, kOutOfMemory);
    return fail(*world.communicator, ExitCode::kBug, error.what());
  }
}

config::RunConfig load_for_all(parallel::Communicator& world, const ConfigOptions& options) {
  return load_for_all(world, [&] {
    return config::load_config(options.path, options.overrides, {.num_ranks = world.size()});
  });
}

config::RunConfig load_for_all(parallel::Communicator& world,
                               const std::function<config::RunConfig()>& load) {
  std::string message;
  if (world.rank() == 0) {
    try {
      message = kConfigFollows + config::serialize(load());
    } catch (const ConfigError& error) {
      message = kErrorFollows + std::string(error.what());
    }
  }
  message = world.all_gather_text(message, "config")[0];
  if (message[0] == kErrorFollows) throw ConfigError(message.substr(1));
  return config::parse(message.substr(1));
}

bool names_file(const std::string& path) {
  std::error_code unknown;
  return std::filesystem::exists(path, unknown) || path.find('/') != std::string::npos ||
         path.ends_with(".textproto");
}

config::RunConfig load_run_or_model(const ConfigOptions& options, int ranks) {
  const std::string& path = options.path;
  if (!names_file(path)) return models::preset_run(path, options.overrides, ranks);
  config::LoadOptions load;
  load.num_ranks = ranks;
  return config::load_config(path, options.overrides, load);
}

void start_runtime(const parallel::World& world, const config::Runtime& kept,
                   config::RunConfig& config) {
  const int asked = config.runtime().threads();
  const int fair = parallel::fair_threads(*world.communicator);
  configure_tensor_runtime(asked > 0 ? asked : fair);
  *config.mutable_runtime() =
      trainer::agree_on_products(config.runtime(), kept, *world.communicator);
  if (asked > fair)
    warn(
        "runtime.threads ({}) are more than this rank's part of the cores, with {} rank(s) on this "
        "machine; this is far slower than {}",
        asked, world.local_size, fair);
}

void make_world_anew(const config::Runtime& runtime, parallel::World& world) {
  if (!world.session) return;
  world.communicator =
      world.session->make_world({.timeout_seconds = static_cast<double>(runtime.timeout_seconds()),
                                 .is_checked = runtime.checked_collectives()});
}

std::string find_checkpoint(const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code unknown;  // left to whoever opens it
  if (fs::exists(path, unknown) && !fs::is_directory(path, unknown))
    throw CheckpointError(
        fmt::format("{}: expected the folder of a checkpoint or of a run, found a file", path));
  if (fs::exists(path + "/COMMIT", unknown)) return path;
  for (const std::string& folder : {path, path + "/checkpoints"}) {
    if (const auto newest = trainer::latest_checkpoint(folder)) return *newest;
  }
  throw CheckpointError(
      fmt::format("{}: expected a checkpoint folder (it holds COMMIT) or a run's folder with "
                  "checkpoints/step_N, found {}",
                  path, fs::exists(path, unknown) ? "neither" : "nothing there"));
}

}  // namespace switchyard::commands
