#include "models/inspect/stages.h"

#include <algorithm>
#include <limits>

#include <fmt/format.h>

#include "core/base/errors.h"
#include "models/inspect/cost.h"

namespace switchyard::models {
namespace {

// A token's operations in the layers before each, with what comes with these; the last is of all.
std::vector<double> flops_before(const config::RunConfig& config) {
  const SequenceLengths lengths = sequence_lengths(config);
  std::vector<double> flops = {0};
  for (int64_t i = 0; i < config.model().num_layers(); ++i)
    flops.push_back(flops.back() + forward_flops(config.model(), lengths, {i, i + 1}));
  return flops;
}

// Where the last of `stages` stages begins that hold the layers up to `end`, and how many
// operations the greatest of them has.
struct Cut {
  int64_t begin = 0;
  double greatest = std::numeric_limits<double>::infinity();
};

// [stages - 1][end]: the best cut.
std::vector<std::vector<Cut>> best_cuts(const std::vector<double>& before, int stages) {
  const auto layers = std::ssize(before) - 1;
  std::vector<std::vector<Cut>> cuts(stages, std::vector<Cut>(layers + 1));
  for (int64_t end = 1; end <= layers; ++end) cuts[0][end] = {0, before[end]};
  for (int stage = 1; stage < stages; ++stage) {
    for (int64_t end = stage + 1; end <= layers; ++end) {
      for (int64_t begin = stage; begin < end; ++begin) {
        const double greatest =
            std::max(cuts[stage - 1][begin].greatest, before[end] - before[begin]);
        if (greatest < cuts[stage][end].greatest) cuts[stage][end] = {begin, greatest};
      }
    }
  }
  return cuts;
}

std::string name_of(const Slice& layers) {
  return layers.size() == 1 ? fmt::format("layer {}", layers.begin)
                            : fmt::format("layers {} to {}", layers.begin, layers.end - 1);
}

}  // namespace

std::vector<Slice> stage_layers(const config::RunConfig& config, int stages) {
  const int64_t layers = config.model().num_layers();
  if (stages == 1) return {{0, layers}};
  SY_CHECK(layers >= stages, "{} layers for {} stages", layers, stages);
  const auto cuts = best_cuts(flops_before(config), stages);
  std::vector<Slice> held(stages);
  int64_t end = layers;
  for (int stage = stages - 1; stage >= 0; --stage) {
    held[stage] = {cuts[stage][end].begin, end};
    end = held[stage].begin;
  }
  return held;
}

std::string describe_stages(const config::RunConfig& config, int stages) {
  if (stages == 1) return "";
  const std::vector<double> before = flops_before(config);
  std::string text = "stages of the pipeline:";
  int stage = 0;
  for (const auto& [begin, end] : stage_layers(config, stages))
    text += fmt::format("\n  stage {}: {}, {:.0f} % of the operations", stage++,
                        name_of({begin, end}), 100 * (before[end] - before[begin]) / before.back());
  const int micro_batches = std::max(1, config.train().accumulation());
  return text + fmt::format(
                    "\n  {} micro-batch(es): stages wait for {:.0f} % of a step, for less with a "
                    "larger train.accumulation",
                    micro_batches, 100.0 * (stages - 1) / (micro_batches + stages - 1));
}

}  // namespace switchyard::models
