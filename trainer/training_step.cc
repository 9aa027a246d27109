#include "trainer/training_step.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>

#include "core/config/layers.h"
#include "core/tensor/aten.h"
#include "core/tensor/profiled_part.h"
#include "models/moe/rules/selection_bias.h"
#include "models/pass/context.h"
#include "models/pass/routing.h"
#include "models/pass/stats.h"
#include "optim/schedule.h"
#include "parallel/activity.h"
#include "parallel/gradients.h"
#include "trainer/pipeline_stage.h"

namespace switchyard::trainer {
namespace {

int64_t count_targets(const Batch& batch) {
  return std::ranges::count_if(batch.targets, [](int32_t target) { return target >= 0; });
}

int64_t count_sources(const Batch& batch) {
  return std::accumulate(batch.source_counts.begin(), batch.source_counts.end(), int64_t{0});
}

// The tokens of a step over all data ranks, for each micro-batch and in all. `targets` counts
// positions with a target, `sources` what an encoder reads.
struct StepTokens {
  std::vector<int64_t> targets, sources;
  int64_t all_targets = 0, all_sources = 0;
};

// **Collective** over the data ranks.
StepTokens count_tokens(const std::vector<Batch>& batches, parallel::Communicator& data) {
  std::vector<int64_t> counts;
  for (const Batch& batch : batches) {
    counts.push_back(count_targets(batch));
    counts.push_back(count_sources(batch));
  }
  data.all_reduce(std::span(counts), parallel::ReduceOp::kSum, "number of tokens");
  StepTokens tokens;
  for (size_t i = 0; i < counts.size(); i += 2) {
    tokens.targets.push_back(counts[i]);
    tokens.sources.push_back(counts[i + 1]);
    tokens.all_targets += counts[i];
    tokens.all_sources += counts[i + 1];
  }
  return tokens;
}

// An encoder-decoder's rows end in padding, so that its tokens must be counted.
void set_real_tokens(const StepTokens& tokens, size_t micro_batch, models::StepContext& context) {
  context.count.in_step = std::max<int64_t>(1, tokens.all_targets);
  context.count.in_micro_batch = tokens.targets[micro_batch];
  context.source_count.in_step = std::max<int64_t>(1, tokens.all_sources);
  context.source_count.in_micro_batch = tokens.sources[micro_batch];
}

models::StepContext context_of(const StepInput& input, const Batch& batch, StepOutcome& outcome) {
  const config::RunConfig& config = input.config;
  models::StepContext context;
  context.training = true;
  context.key.seed = config.seed();
  context.key.step = input.step;
  context.tokens = models::TokenMap(batch.first_sequence * batch.length);
  context.group_tokens = batch.length * group_sequences(config.model());
  context.count.in_step = int64_t{config.train().global_batch()} * batch.length;
  context.count.in_micro_batch = context.count.in_step / config.train().accumulation();
  context.coefficients = models::coefficients_of(config.model());
  context.sums = &outcome.sums;
  return context;
}

void forward_backward(ModelInstance& instance, const StepInput& input, const StepTokens& tokens,
                      StepOutcome& outcome) {
  const double scale =
      input.loss_factor / static_cast<double>(std::max<int64_t>(1, tokens.all_targets));
  const bool recompute = input.config.train().recompute() == config::RECOMPUTE_LAYER;
  const auto num_routers = static_cast<size_t>(config::num_routers(input.config.model()));
  std::vector<models::RoutingSums> routing_sums(num_routers);
  std::vector<models::LoadTotals> load_totals(num_routers);
  parallel::Activity& activity = instance.mesh.control().activity();
  const parallel::Pipeline& pipeline = instance.mesh.pipeline();
  std::vector<at::Tensor> losses;
  const auto forward = [&](int64_t i, const at::Tensor& x_TD) {
    const Batch& batch = input.batches[i];
    models::StepContext context = context_of(input, batch, outcome);
    context.routing.sums = &routing_sums;
    context.routing.slots = input.slots;
    context.routing.load_totals = &load_totals;
    context.activity = &activity;
    if (batch.source_length > 0) set_real_tokens(tokens, i, context);
    const at::Tensor left =
        instance.model.forward(x_TD, to_tensors(batch), context, scale, recompute);
    if (pipeline.is_last()) losses.push_back(left.detach());
    if (i + 1 == std::ssize(input.batches)) instance.parameters.end_forward();
    return left;
  };
  const auto empty_rows = [&] {
    return instance.model.text().empty_rows(std::ssize(input.batches.front().tokens));
  };
  PipelineStage(pipeline, activity, {empty_rows, forward}).run(std::ssize(input.batches));
  for (const at::Tensor& loss : losses) outcome.sums["loss"] += {loss.item<double>()};
  outcome.stats = models::numbers_of(routing_sums);
}

// The sign of a NaN means nothing and differs between processors; it would be printed.
double without_sign_of_nan(double value) { return std::isnan(value) ? std::abs(value) : value; }

}  // namespace

bool StepOutcome::is_finite() const { return std::isfinite(loss) && std::isfinite(gradient_norm); }

StepOutcome compute_step(ModelInstance& instance, const StepInput& input) {
  const parallel::Mesh& mesh = instance.mesh;
  StepOutcome outcome;
  outcome.learning_rate =
      optim::learning_rate(input.config.optimizer(), input.step, input.config.train().steps());
  parallel::Activity& activity = mesh.control().activity();
  activity.begin_step(input.step + 1);
  activity.begin(parallel::Phase::kForward);
  instance.parameters.zero_gradients();
  forward_backward(instance, input, count_tokens(input.batches, mesh.data()), outcome);
  {
    const ProfiledPart part("sy::reduction and wait");
    activity.begin(parallel::Phase::kReduction);
    const auto groups = instance.parameters.trained_groups();
    instance.reduction.finish();
    outcome.gradient_norm = without_sign_of_nan(parallel::gradient_norm(groups, mesh));
  }
  parallel::all_reduce(outcome.sums, mesh.data(), "step loss");
  parallel::Communicator& stages = mesh.pipeline().stages();
  parallel::all_reduce_union(outcome.sums, stages, "step loss of the stages");
  models::gather_stats(outcome.stats, input.config.model().moe().num_experts(), stages);
  outcome.loss = without_sign_of_nan(take(outcome.sums, "loss").total);
  return outcome;
}

void update_weights(ModelInstance& instance, optim::Optimizer& optimizer,
                    const config::RunConfig& config, const StepOutcome& outcome) {
  const ProfiledPart part("sy::optimizer");
  parallel::Activity& activity = instance.mesh.control().activity();
  activity.begin(parallel::Phase::kUpdate);
  models::update_selection_bias(instance.parameters, config.model().moe(), outcome.stats,
                                instance.mesh.data());
  optimizer.set_weight_decay(config.optimizer().weight_decay());
  optimizer.step(outcome.learning_rate, outcome.gradient_norm);
  activity.begin(parallel::Phase::kBetweenSteps);
}

}  // namespace switchyard::trainer
