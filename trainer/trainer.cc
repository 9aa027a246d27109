#include "trainer/trainer.h"

#include <span>

#include <fmt/format.h>

#include "parallel/crash_report.h"

namespace switchyard::trainer {

ExitCode Trainer::run() {
  print_banner();
  if (is_last() && step() > 0)
    say(fmt::format("nothing is left to train; for more than {} steps raise train.steps",
                    config_.train().steps()));
  speed_.restart();
  while (!is_last()) {
    const StepOutcome outcome = compute();
    if (reached_goal(outcome)) break;
    const std::optional<double> spike = find_spike(outcome.loss);
    update(outcome);
    show_progress();
    if (is_due(config_.log().every()) || is_last() || spike) log(outcome, spike);
    // Before the step is saved: a checkpoint stands for the step's evaluation too.
    if (is_due(config_.eval().every()) || is_last()) evaluate_now(is_last());
    const Votes votes = vote();
    if (votes.save_goes_on) storage_.advance_saving();
    say_what_is_saved();
    if (is_due(config_.checkpoint().every()) || votes.save) save_unless_skipping();
    if (votes.stop && !is_last()) {
      save();
      finish_saving();
      say(fmt::format("stopped at step {} and saved; run again to go on", step()));
      return ExitCode::kPreempted;
    }
  }
  if (step() > 0) {
    evaluate_now(/*prints_tables=*/true);
    save();
  }
  finish_saving();
  return ExitCode::kDone;
}

StepOutcome Trainer::compute() {
  const int64_t number = step() + 1;
  parallel::set_crash_step(number);
  faults_.begin_step(number);
  return training_.compute(faults_.loss_factor(number));
}

void Trainer::update(const StepOutcome& outcome) {
  for (const std::string& line : training_.update(outcome)) say(line);
  speed_.count_step(training_.tokens_of_step());
  for (const std::string& line : rank_times_.count_step()) say(line);
  if (outcome.is_finite()) return;
  say(fmt::format("step {} skipped: loss {}, gradient norm {}", step(), outcome.loss,
                  outcome.gradient_norm));
  const int32_t skipped = training_.state.skipped_in_a_row;
  if (skipped <= config_.train().max_skipped_steps()) return;
  finish_saving();
  const std::string saved = storage_.folder().checkpoints();
  throw NumericsError(fmt::format(
      "{} steps in a row had a non-finite loss or gradient, the last at step {} "
      "(train.max_skipped_steps is {}); lower optimizer.lr{}",
      skipped, step(), config_.train().max_skipped_steps(),
      latest_checkpoint(saved) ? " or resume from an earlier checkpoint in " + saved : ""));
}

std::optional<double> Trainer::find_spike(double loss) {
  const LossWindow& losses = training_.state.losses;
  const double sigmas = losses.sigmas_above(loss), limit = config_.log().spike_sigmas();
  if (limit <= 0 || sigmas <= limit) return std::nullopt;
  say(
      fmt::format("step {}: the loss {:.4f} is {:.1f} standard deviations above the mean {:.4f} "
                  "of the steps before; its batch: {}",
                  step() + 1, loss, sigmas, losses.mean, training_.place_of_batch()));
  return sigmas;
}

// The weights of this moment made the predictions, so they are the ones to keep.
bool Trainer::reached_goal(const StepOutcome& outcome) {
  const auto error = outcome.sums.find("error");
  const double limit = config_.train().stop_below_error();
  if (error == outcome.sums.end() || !(error->second.mean() < limit)) return false;
  say(fmt::format("done: after {} steps the mean squared error is {:.4f}, below {}", step(),
                  error->second.mean(), limit));
  return true;
}

Trainer::Votes Trainer::vote() {
  const double every = config_.checkpoint().every_minutes();
  const bool is_late = world_.rank() == 0 && every > 0 && storage_.minutes_since_save() >= every;
  int64_t votes[] = {signals_.is_requested(), is_late, storage_.is_writing()};
  world_.all_reduce(std::span<int64_t>(votes), parallel::ReduceOp::kMax, "stop or save");
  return {votes[0] > 0 || step() == config_.train().stop_after_steps(), votes[1] > 0,
          storage_.is_saving() && votes[2] == 0};
}

void Trainer::say(const std::string& text) {
  if (metrics_) metrics_->say(text);
}

}  // namespace switchyard::trainer
