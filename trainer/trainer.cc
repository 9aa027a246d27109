#include "trainer/trainer.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>

#include <fmt/format.h>

#include "core/base/log.h"
#include "core/base/seconds.h"
#include "core/config/layers.h"
#include "core/config/schedule.h"
#include "core/tensor/aten.h"
#include "core/tensor/profiled_part.h"
#include "models/moe/dead_experts.h"
#include "models/moe/router/selection_bias.h"
#include "models/moe/stats.h"
#include "models/pass/coefficients.h"
#include "optim/schedule.h"
#include "parallel/crash_report.h"
#include "parallel/gradients.h"
#include "trainer/evaluate.h"

namespace switchyard::trainer {
namespace {

int64_t count_targets(const Batch& batch) {
  return std::ranges::count_if(batch.targets, [](int32_t target) { return target >= 0; });
}

int64_t count_sources(const Batch& batch) {
  return std::accumulate(batch.source_counts.begin(), batch.source_counts.end(), int64_t{0});
}

// Tokens of a step over all ranks, by micro-batch and in all: positions with a target, and what an
// encoder reads.
struct StepTokens {
  std::vector<int64_t> targets, sources;
  int64_t all_targets = 0, all_sources = 0;
};

// **Collective.**
StepTokens count_tokens(const std::vector<Batch>& batches, parallel::Communicator& world) {
  std::vector<int64_t> counts;
  for (const Batch& batch : batches) {
    counts.push_back(count_targets(batch));
    counts.push_back(count_sources(batch));
  }
  world.all_reduce(std::span(counts), parallel::ReduceOp::kSum, "number of tokens");
  StepTokens tokens;
  for (size_t i = 0; i < counts.size(); i += 2) {
    tokens.targets.push_back(counts[i]);
    tokens.sources.push_back(counts[i + 1]);
    tokens.all_targets += counts[i];
    tokens.all_sources += counts[i + 1];
  }
  return tokens;
}

// For an encoder-decoder, whose rows end in padding.
void set_real_tokens(const StepTokens& tokens, size_t micro_batch, models::StepContext& context) {
  context.count.in_step = std::max<int64_t>(1, tokens.all_targets);
  context.count.in_micro_batch = tokens.targets[micro_batch];
  context.source_count.in_step = std::max<int64_t>(1, tokens.all_sources);
  context.source_count.in_micro_batch = tokens.sources[micro_batch];
}

}  // namespace

ExitCode Trainer::run() {
  print_banner();
  if (is_last() && state_.step > 0)
    say(fmt::format("nothing is left to train; for more than {} steps raise train.steps",
                    config_.train().steps()));
  speed_.restart();
  while (!is_last()) {
    StepResult result = train_step();
    if (reached_goal(result)) break;
    update(result);
    speed_.count_step(tokens_of_step());
    show_progress();
    if (is_due(config_.log().every()) || is_last() || result.spike) log(result);
    // Before the step is saved: a checkpoint stands for the step's evaluation too.
    if (is_due(config_.eval().every()) || is_last()) evaluate_now();
    if (is_due(config_.checkpoint().every()) || result.save_is_due) save_unless_skipping();
    if (result.stop_requested && !is_last()) {
      save();
      say(fmt::format("stopped at step {} and saved; run again to go on", state_.step));
      return ExitCode::kPreempted;
    }
  }
  if (state_.step > 0) {
    evaluate_now();
    save();
  }
  return ExitCode::kDone;
}

Trainer::StepResult Trainer::train_step() {
  parallel::set_crash_step(state_.step + 1);
  faults_.begin_step(state_.step + 1);
  now_ = config::in_force(config_, {state_.step, state_.tokens});
  StepResult result;
  result.stats.resize(config::num_routers(config_.model()));
  const std::vector<Batch> batches = next_batches();
  instance_.parameters.zero_gradients();
  const double loss_share = forward_backward(batches, result);
  reduce(result);
  result.learning_rate =
      optim::learning_rate(now_.optimizer(), state_.step, config_.train().steps());

  const bool stop =
      signals_.is_requested() || state_.step + 1 == config_.train().stop_after_steps();
  result.sums["loss"] += {loss_share};
  result.sums["stop"] += {stop ? 1.0 : 0.0};
  result.sums["save"] += {is_time_to_save() ? 1.0 : 0.0};
  parallel::all_reduce(result.sums, world_, "step loss");
  result.loss = take(result.sums, "loss").total;
  result.stop_requested = take(result.sums, "stop").total > 0;
  result.save_is_due = take(result.sums, "save").total > 0;
  const double sigmas = state_.losses.sigmas_above(result.loss),
               limit = config_.log().spike_sigmas();
  if (limit > 0 && sigmas > limit) result.spike = sigmas;
  return result;
}

std::vector<Batch> Trainer::next_batches() {
  const ProfiledPart part("sy::data");
  std::vector<Batch> batches = loader_->next_step();
  SY_CHECK(static_cast<int>(batches.size()) == now_.train().accumulation(),
           "step {} has {} micro-batches, expected {}", state_.step, batches.size(),
           now_.train().accumulation());
  return batches;
}

void Trainer::reduce(StepResult& result) {
  const ProfiledPart part("sy::reduction and wait");
  const auto groups = instance_.parameters.trained_groups();
  parallel::reduce_gradients(groups, instance_.mesh);
  result.gradient_norm = parallel::gradient_norm(groups, instance_.mesh);
}

double Trainer::forward_backward(const std::vector<Batch>& batches, StepResult& result) {
  const StepTokens tokens = count_tokens(batches, world_);
  const double scale = faults_.loss_factor(state_.step + 1) /
                       static_cast<double>(std::max<int64_t>(1, tokens.all_targets));
  const bool recompute = config_.train().recompute() == config::RECOMPUTE_LAYER;
  std::vector<models::LoadTotals> load_totals(result.stats.size());
  double loss_share = 0;
  for (size_t i = 0; i < batches.size(); ++i) {
    models::StepContext context = context_of(batches[i], result);
    context.routing.load_totals = &load_totals;
    if (batches[i].source_length > 0) set_real_tokens(tokens, i, context);
    const at::Tensor loss =
        instance_.model.loss(to_tensors(batches[i]), context, scale, {}, recompute);
    if (i + 1 == batches.size()) instance_.parameters.end_forward();
    loss.backward();
    loss_share += loss.item<double>();
  }
  return loss_share;
}

models::StepContext Trainer::context_of(const Batch& batch, StepResult& result) const {
  const auto& train = now_.train();
  models::StepContext context;
  context.training = true;
  context.key.seed = config_.seed();
  context.key.step = state_.step;
  context.tokens = models::TokenMap(batch.first_sequence * batch.length);
  context.group_tokens = batch.length * group_sequences(config_.model());
  context.count.in_step = int64_t{train.global_batch()} * batch.length;
  context.count.in_micro_batch = context.count.in_step / train.accumulation();
  if (config_.schedule_size() > 0) context.coefficients = models::coefficients_of(now_.model());
  context.routing.stats = &result.stats;
  context.sums = &result.sums;
  return context;
}

bool Trainer::StepResult::is_finite() const {
  return std::isfinite(loss) && std::isfinite(gradient_norm);
}

void Trainer::update(const StepResult& result) {
  if (result.spike)
    say(fmt::format(
        "step {}: the loss {:.4f} is {:.1f} standard deviations above the mean {:.4f} "
        "of the steps before; its batch: {}",
        state_.step + 1, result.loss, *result.spike, state_.losses.mean, place_of_batch()));
  state_.losses.add(result.loss);
  ++state_.step;
  state_.tokens += tokens_of_step();
  state_.data = loader_->cursor();
  track_experts(result.stats);
  if (result.is_finite()) {
    const ProfiledPart part("sy::optimizer");
    models::update_selection_bias(instance_.parameters, now_.model().moe(), result.stats, world_);
    optimizer_->set_weight_decay(now_.optimizer().weight_decay());
    optimizer_->step(result.learning_rate, result.gradient_norm);
    revive_experts(result.stats);
    state_.skipped_in_a_row = 0;
    return;
  }
  ++state_.skipped_steps;
  say(fmt::format("step {} skipped: loss {}, gradient norm {}", state_.step, result.loss,
                  result.gradient_norm));
  if (++state_.skipped_in_a_row > config_.train().max_skipped_steps()) {
    throw NumericsError(
        fmt::format("{} steps in a row had a non-finite loss or gradient, the last at step {} "
                    "(train.max_skipped_steps is {}); "
                    "lower optimizer.lr or resume from an earlier checkpoint in {}",
                    state_.skipped_in_a_row, state_.step, config_.train().max_skipped_steps(),
                    folder_.checkpoints()));
  }
}

// Notes when each expert last had a token from this rank; ranks agree when a record or a checkpoint
// needs it.
void Trainer::track_experts(const std::vector<models::RoutingStats>& stats) {
  state_.last_active.resize(stats.size());
  for (size_t layer = 0; layer < stats.size(); ++layer) {
    auto& last = state_.last_active[layer];
    last.resize(stats[layer].load.size());
    for (size_t e = 0; e < last.size(); ++e) {
      if (stats[layer].load[e] > 0) last[e] = state_.step;
    }
  }
}

void Trainer::revive_experts(const std::vector<models::RoutingStats>& stats) {
  const config::Moe& moe = config_.model().moe();
  if (moe.dead_expert_action() <= config::LEAVE || stats.empty()) return;
  agree_on_activity();
  models::DeadExperts dead;
  for (const auto& last : state_.last_active) {
    dead.ids.emplace_back();
    for (size_t e = 0; e < last.size(); ++e) {
      if (is_dead(last[e])) dead.ids.back().push_back(static_cast<int64_t>(e));
    }
  }
  if (std::ranges::all_of(dead.ids, [](const auto& ids) { return ids.empty(); })) return;
  dead.load = models::total_load(stats, moe.num_experts(), world_);
  dead.seed = config_.seed();
  dead.step = state_.step;
  for (const models::Revival& r : models::revive(instance_.parameters, moe, dead, instance_.mesh)) {
    state_.last_active[r.moe_layer][r.expert] = state_.step;
    say(fmt::format("step {}: expert {} of MoE layer {} had no token for {} steps; {}", state_.step,
                    r.expert, r.moe_layer, config_.log().dead_after_steps(),
                    moe.dead_expert_action() == config::REINITIALIZE
                        ? fmt::format("it is a copy of expert {} now, with noise", r.busiest)
                        : "its selection bias is the greatest now"));
  }
}

bool Trainer::is_dead(int64_t last_active) const {
  return state_.step - last_active >= config_.log().dead_after_steps();
}

// The weights of this moment made the predictions, so they are the ones to keep.
bool Trainer::reached_goal(const StepResult& result) {
  const auto error = result.sums.find("error");
  is_over_ =
      error != result.sums.end() && error->second.mean() < config_.train().stop_below_error();
  if (is_over_)
    say(fmt::format("done: after {} steps the mean squared error is {:.4f}, below {}", state_.step,
                    error->second.mean(), config_.train().stop_below_error()));
  return is_over_;
}

bool Trainer::is_due(int64_t every) const { return every > 0 && state_.step % every == 0; }

bool Trainer::is_time_to_save() const {
  const double minutes = config_.checkpoint().every_minutes();
  return world_.rank() == 0 && minutes > 0 && seconds_since(saved_at_) >= 60 * minutes;
}

void Trainer::show_progress() {
  const int64_t steps = config_.train().steps();
  if (metrics_) metrics_->tick(state_.step, steps, speed_.eta_seconds(num_tokens_ - state_.tokens));
}

int64_t Trainer::tokens_of_step() const {
  return int64_t{now_.train().global_batch()} * now_.data().sequence_length();
}

void Trainer::say(const std::string& text) {
  if (metrics_) metrics_->say(text);
}

}  // namespace switchyard::trainer
