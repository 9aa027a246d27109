// What a run reports and saves. See trainer/trainer.h.

#include <algorithm>
#include <limits>
#include <map>
#include <span>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/base/log.h"
#include "models/moe/stats.h"
#include "trainer/agreement.h"
#include "trainer/checkpoint/folder.h"
#include "trainer/evaluate.h"
#include "trainer/trainer.h"

namespace switchyard::trainer {
namespace {

constexpr int kKeepAll = std::numeric_limits<int>::max();

// A disk may take longer than runtime.timeout_seconds for a save, though not for one step of it.
FileSystem watched_files(parallel::Communicator& world, FileStepHook fault) {
  return FileSystem([&world, fault = std::move(fault)](FileStep step, const std::string& path) {
    world.beat(fmt::format("{} {}", name_of(step), path.substr(path.rfind('/') + 1)));
    if (fault) fault(step, path);
  });
}

}  // namespace

void Trainer::agree_on_activity() {
  for (auto& layer : state_.last_active) {
    world_.all_reduce(std::span(layer), parallel::ReduceOp::kMax, "active experts");
  }
}

void Trainer::log(StepResult& result) {
  if (lock_) lock_->check_held();
  models::reduce_stats(result.stats, world_);
  agree_on_activity();
  StepRecord record;
  record.step = state_.step;
  record.num_steps = config_.train().steps();
  record.loss = result.loss;
  record.loss_suffix = loss_suffix(config_.data());
  record.grad_norm = result.gradient_norm;
  record.lr = result.learning_rate;
  record.sums = result.sums;
  record.spike = result.spike;
  record.tokens = state_.tokens;
  record.skipped_steps = state_.skipped_steps;
  for (size_t layer = 0; layer < result.stats.size(); ++layer) {
    record.layers.push_back(health_of(result.stats[layer], now_.model().moe()));
    if (is_due(config_.log().load_every()))
      record.layers.back().expert_load = expert_shares(result.stats[layer]);
    record.layers.back().dead_experts = std::ranges::count_if(
        state_.last_active[layer], [&](int64_t last) { return is_dead(last); });
  }
  speed_.fill(record, num_tokens_ - state_.tokens);
  if (metrics_) metrics_->log_step(record);
  speed_.restart();
}

// "sequences 8 to 15; a.bin at tokens 512, 0; b.bin at token 96", to look at the text.
std::string Trainer::place_of_batch() const {
  const int64_t last = loader_->cursor().sequence;
  std::map<size_t, std::vector<int64_t>> places;  // by source, of the rows' first tokens
  for (Cursor cursor = state_.data; cursor.sequence < last;) {
    const Draw draw = blend_.next(cursor);
    places[draw.source].push_back(draw.sample * blend_.length());
  }
  std::string text = fmt::format("sequences {} to {}", state_.data.sequence, last - 1);
  for (const auto& [source, tokens] : places)
    text +=
        fmt::format("; {} at token(s) {}", blend_.source(source).name(), fmt::join(tokens, ", "));
  return text;
}

void Trainer::evaluate_now() {
  if (data_.validation.empty() || last_evaluated_ == state_.step) return;
  last_evaluated_ = state_.step;
  const auto results =
      evaluate(config_, instance_, data_, tokenizer_.get(), config_.eval().sequences());
  if (metrics_) {
    metrics_->log_evaluation(state_.step, results, loss_suffix(config_.data()));
    if (is_last()) metrics_->say(loss_table(results) + expert_table(results));
  }
  speed_.restart();
}

// What made a step unfit may be in the weights already, and the steps before it must not go for it.
void Trainer::save_unless_skipping() {
  if (state_.skipped_in_a_row == 0) return save();
  say(fmt::format("not saved: the last {} step(s) were skipped; earlier checkpoints stay",
                  state_.skipped_in_a_row));
}

// After going back to an earlier step: what followed it is another branch from here on.
void Trainer::abandon_branch() {
  std::vector<std::string> abandoned;
  agree(world_, "abandoned steps", [&] {
    if (world_.rank() == 0)
      abandoned = abandon_later_steps(FileSystem(), folder_.checkpoints(), branch_from_);
    return std::string();
  });
  if (!abandoned.empty())
    info("went back to step {}: what was saved after it is kept as {}", branch_from_,
         fmt::join(abandoned, ", "));
  branch_from_ = -1;
}

void Trainer::save() {
  if (last_saved_ == state_.step) return;
  last_saved_ = state_.step;
  if (lock_) lock_->check_held();
  if (branch_from_ >= 0) abandon_branch();
  agree_on_activity();
  state_.optimizer_steps = optimizer_->num_steps();
  save_checkpoint(watched_files(world_, faults_.during_save(state_.step)), folder_.checkpoints(),
                  {config_, instance_.parameters, *optimizer_, state_}, instance_.mesh,
                  state_.skipped_in_a_row > 0 ? kKeepAll : config_.checkpoint().keep());
  say(fmt::format("saved: {}/step_{}", folder_.checkpoints(), state_.step));
  saved_at_ = std::chrono::steady_clock::now();
  speed_.restart();
}

}  // namespace switchyard::trainer
