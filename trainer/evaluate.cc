#include "trainer/evaluate.h"

#include <algorithm>
#include <numbers>

#include "core/config/layers.h"
#include "core/data/evaluation.h"
#include "core/tensor/aten.h"
#include "models/pass/stats.h"

namespace switchyard::trainer {
namespace {

// Rows of one batch on this rank: its share of a training run's micro-batch, were that run on these
// ranks, in whole routing groups; at least one group.
int64_t batch_sequences(const config::RunConfig& config, int64_t num_ranks) {
  const int64_t group = group_sequences(config.model());
  const int64_t rows = config.train().global_batch() / config.train().accumulation() / num_ranks;
  return std::max<int64_t>(1, rows / group) * group;
}

int64_t text_bytes(const Batch& batch, const Tokenizer& tokenizer) {
  std::vector<int32_t> targets;
  for (const int32_t target : batch.targets) {
    if (target >= 0 && target < tokenizer.vocab_size()) targets.push_back(target);
  }
  return static_cast<int64_t>(tokenizer.decode(targets).size());
}

// Padding, which is at the end of a rank's rows, has no target. Nor has a source's last token,
// which is input to no other's prediction. (An encoder-decoder finds its padding by itself.)
models::StepContext context_of(const config::RunConfig& config, const Batch& batch,
                               int64_t num_targets, std::vector<models::RoutingSums>* sums) {
  models::StepContext context;
  context.key.seed = config.seed();
  context.tokens = models::TokenMap(batch.first_sequence * batch.length);
  context.group_tokens = batch.length * group_sequences(config.model());
  context.is_real_T = models::first_are_real(num_targets, std::ssize(batch.targets));
  context.routing.sums = sums;
  return context;
}

SourceResult evaluate_source(const config::RunConfig& config, ModelInstance& instance,
                             const NamedSource& source, const EvalOptions& rows,
                             const Tokenizer* tokenizer) {
  const EvalLoader loader(source.source, rows);
  SourceResult result{source.name, 0, 0, 0, {}, {}};
  std::vector<models::RoutingSums> sums_of_routers(config::num_lasting_routers(config.model()));
  parallel::Sum &loss = result.sums["loss"], &bytes = result.sums["text bytes"];
  for (int64_t i = 0; i < loader.num_batches(); ++i) {
    const Batch batch = loader.batch(i);
    const int64_t targets =
        std::ranges::count_if(batch.targets, [](int32_t target) { return target >= 0; });
    auto context = context_of(config, batch, targets, &sums_of_routers);
    context.sums = &result.sums;
    context.activity = &instance.mesh.control().activity();
    const at::Tensor losses = instance.model.losses(to_tensors(batch), context);
    if (!losses.defined()) continue;  // the last stage has them
    loss += {losses.sum().item<double>(), static_cast<double>(targets)};
    if (tokenizer) bytes += {static_cast<double>(text_bytes(batch, *tokenizer))};
  }
  parallel::Communicator &data = instance.mesh.data(), &stages = instance.mesh.pipeline().stages();
  parallel::all_reduce(result.sums, data, "evaluation");
  parallel::all_reduce_union(result.sums, stages, "evaluation of the stages");
  result.layers = models::numbers_of(sums_of_routers);
  models::reduce_stats(result.layers, data);
  models::gather_stats(result.layers, config.model().moe().num_experts(), stages);
  result.loss = loss.mean();
  result.targets = static_cast<int64_t>(loss.weight);
  result.text_bytes = static_cast<int64_t>(bytes.total);
  for (const char* name : {"loss", "text bytes"}) result.sums.erase(name);
  return result;
}

}  // namespace

double SourceResult::bits_per_byte() const {
  if (text_bytes == 0) return 0;
  return loss * static_cast<double>(targets) / std::numbers::ln2 / static_cast<double>(text_bytes);
}

std::vector<SourceResult> evaluate(const config::RunConfig& config, ModelInstance& instance,
                                   const RunData& data, const Tokenizer* tokenizer,
                                   int64_t max_sequences) {
  const at::NoGradGuard no_grad;
  const parallel::Communicator& ranks = instance.mesh.data();
  const EvalOptions rows{data.maker->sample_tokens(),
                         max_sequences,
                         batch_sequences(config, ranks.size()),
                         ranks.rank(),
                         ranks.size(),
                         data.maker};
  std::vector<SourceResult> results;
  for (const NamedSource& source : data.validation)
    results.push_back(evaluate_source(config, instance, source, rows, tokenizer));
  return results;
}

double mean_loss(const std::vector<SourceResult>& results) {
  double sum = 0, targets = 0;
  for (const SourceResult& result : results) {
    sum += result.loss * static_cast<double>(result.targets);
    targets += static_cast<double>(result.targets);
  }
  return targets > 0 ? sum / targets : 0;
}

}  // namespace switchyard::trainer
