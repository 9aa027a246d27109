// What a run reports and saves. See trainer/trainer.h.

#include <fmt/format.h>

#include "models/pass/stats.h"
#include "parallel/activity.h"
#include "trainer/checkpoint/folder.h"
#include "trainer/evaluate.h"
#include "trainer/expert_health.h"
#include "trainer/trainer.h"

namespace switchyard::trainer {

void Trainer::log(const StepOutcome& outcome, std::optional<double> spike) {
  storage_.check_held();
  agree_on_activity(training_.state.last_active, training_.instance.mesh.data());
  StepRecord record;
  record.step = step();
  record.num_steps = config_.train().steps();
  record.loss = outcome.loss;
  record.loss_suffix = loss_suffix(config_.data());
  record.grad_norm = outcome.gradient_norm;
  record.lr = outcome.learning_rate;
  record.sums = outcome.sums;
  record.spike = spike;
  record.tokens = training_.state.tokens;
  record.skipped_steps = training_.state.skipped_steps;
  record.layers = health_of_layers(outcome.stats);
  speed_.fill(record);
  record.rank_times = rank_times_.per_step();
  if (metrics_) metrics_->log_step(record);
  speed_.restart();
}

std::vector<LayerHealth> Trainer::health_of_layers(std::vector<models::RoutingStats> stats) const {
  models::reduce_stats(stats, training_.instance.mesh.data());
  std::vector<LayerHealth> layers;
  for (size_t router = 0; router < stats.size(); ++router) {
    LayerHealth& health =
        layers.emplace_back(health_of(stats[router], training_.now().model().moe()));
    if (is_due(config_.log().load_every())) health.expert_load = expert_shares(stats[router]);
    health.dead_experts = std::ssize(dead_experts(training_.state.last_active[router], step(),
                                                  config_.log().dead_after_steps()));
  }
  return layers;
}

void Trainer::show_progress() {
  if (metrics_) metrics_->tick(step(), config_.train().steps(), speed_.eta_seconds());
}

void Trainer::evaluate_now(bool prints_tables) {
  const RunData& data = training_.data;
  if (data.validation.empty() || last_evaluated_ == step()) return;
  last_evaluated_ = step();
  world_.activity().begin(parallel::Phase::kEvaluation);
  const auto results =
      evaluate(config_, training_.instance, data, data.tokenizer.get(), config_.eval().sequences());
  if (metrics_) {
    metrics_->log_evaluation(step(), results, loss_suffix(config_.data()));
    if (prints_tables) metrics_->say(loss_table(results) + expert_table(results));
  }
  world_.activity().begin(parallel::Phase::kBetweenSteps);
  speed_.restart();
}

// What made a step unfit may be in the weights already, and the steps before it must not go for it.
void Trainer::save_unless_skipping() {
  const int32_t skipped = training_.state.skipped_in_a_row;
  if (skipped == 0) return save();
  say(fmt::format("not saved: the last {} step(s) were skipped; earlier checkpoints stay",
                  skipped));
}

void Trainer::save() {
  if (storage_.has(step())) return;
  ModelInstance& instance = training_.instance;
  TrainingState& state = training_.state;
  world_.activity().begin(parallel::Phase::kSave);
  agree_on_activity(state.last_active, instance.mesh.data());
  state.optimizer_steps = training_.optimizer->num_steps();
  storage_.save({config_, instance.parameters, *training_.optimizer, state}, instance.mesh,
                faults_.during_save(step()));
  world_.activity().begin(parallel::Phase::kBetweenSteps);
  say_what_is_saved();
  speed_.restart();
}

void Trainer::finish_saving() {
  storage_.finish_saving();
  say_what_is_saved();
}

void Trainer::say_what_is_saved() {
  for (const int64_t saved : storage_.take_completed())
    say(fmt::format("saved: {}", step_path(storage_.folder().checkpoints(), saved)));
}

}  // namespace switchyard::trainer
