#include "trainer/machine/memory_check.h"

#include <algorithm>
#include <vector>

#include <fmt/format.h>

#include "core/base/errors.h"
#include "core/base/log.h"
#include "core/config/mesh_shape.h"
#include "models/inspect/memory.h"
#include "trainer/machine/available_memory.h"

namespace switchyard::trainer {
namespace {

// What one rank finds on its machine.
struct Finding {
  double available = 0, limit = 0;  // bytes; limit 0: none
  int32_t ranks = 1;                // of the machine
  int32_t rank = 0;                 // of the world

  double share() const { return available / ranks; }
};

std::string advice(const config::RunConfig& config) {
  const config::Train& train = config.train();
  std::string text =
      train.global_batch() > train.accumulation() ? "raise train.accumulation, " : "";
  if (train.recompute() == config::RECOMPUTE_NONE) text += "set train.recompute: RECOMPUTE_LAYER, ";
  return text +
         "lower data.sequence_length or the model's sizes, or take fewer ranks on each machine and "
         "more machines";
}

}  // namespace

void check_memory(const config::RunConfig& config, parallel::Communicator& world, int local_ranks) {
  const models::MemoryPlan plan =
      models::memory_plan(config, config::mesh_shape(config.mesh(), config.model(), world.size()));
  const Memory memory = look_at_memory();
  const Finding mine{static_cast<double>(memory.available_bytes),
                     static_cast<double>(memory.limit_bytes), local_ranks, world.rank()};
  std::vector<Finding> all(static_cast<size_t>(world.size()));
  world.all_gather(&mine, all.data(), sizeof mine, "memory available");
  const Finding worst = *std::ranges::min_element(all, {}, &Finding::share);
  if (worst.available <= 0 || plan.total() <= worst.share()) return;  // 0: nothing could be read
  const std::string text = fmt::format(
      "not enough memory on the machine of rank {}: {} rank(s) need {} each, {} together, and {} "
      "are available{}\n{}",
      worst.rank, worst.ranks, models::format_bytes(plan.total()),
      models::format_bytes(plan.total() * worst.ranks), models::format_bytes(worst.available),
      worst.limit > 0
          ? fmt::format(" (its control group is limited to {})", models::format_bytes(worst.limit))
          : "",
      models::describe_memory(config, plan));
  if (config.runtime().check_memory())
    throw ConfigError(fmt::format("{}{}; or set runtime.check_memory: false to try all the same",
                                  text, advice(config)));
  if (world.rank() == 0) warn("{}{}", text, advice(config));
}

}  // namespace switchyard::trainer
