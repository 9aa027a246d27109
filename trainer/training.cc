#include "trainer/training.h"

#include <map>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/base/errors.h"
#include "core/config/layers.h"
#include "core/config/schedule.h"
#include "core/tensor/profiled_part.h"
#include "trainer/expert_health.h"

namespace switchyard::trainer {
namespace {

// How many micro-batches a step has: LoaderOptions::micro_batches of a run with schedules.
std::function<int64_t(int64_t, int64_t)> micro_batches(const config::RunConfig& config) {
  const int64_t size = config.train().global_batch() / config.train().accumulation();
  return [config, size](int64_t step, int64_t sequences) {
    const int64_t tokens = sequences * config.data().sequence_length();
    return config::global_batch_at(config, {step, tokens}) / size;
  };
}

}  // namespace

Training::Training(const config::RunConfig& config, RunData opened, parallel::Communicator& world)
    : data(std::move(opened)),
      blend(data.train, data.maker->sample_tokens(), config.seed()),
      instance(config, world),
      optimizer(optim::make_optimizer(config.optimizer(), instance.parameters.trained_groups(),
                                      instance.mesh)),
      config_(config) {
  state.data = blend.start();
  state.data_fingerprint = blend.fingerprint();
  state.tokenizer_fingerprint = data.tokenizer ? data.tokenizer->fingerprint() : 0;
  state.last_active.resize(config::num_routers(config.model()));
}

void Training::begin() {
  const parallel::Communicator& ranks = instance.mesh.data();
  const LoaderOptions options{config_.train().global_batch(),
                              config_.train().accumulation(),
                              ranks.rank(),
                              ranks.size(),
                              /*prefetch=*/2,
                              data.maker,
                              state.step,
                              micro_batches(config_),
                              config::largest_batch(config_)};
  loader_ = std::make_unique<BatchLoader>(blend, options, state.data);
}

StepOutcome Training::compute(double loss_factor, std::vector<models::SlotRecord>* slots) {
  now_ = config::in_force(config_, {state.step, state.tokens});
  return compute_step(instance, {now_, state.step, next_batches(), loss_factor, slots});
}

std::vector<Batch> Training::next_batches() {
  const ProfiledPart part("sy::data");
  std::vector<Batch> batches = loader_->next_step();
  SY_CHECK(static_cast<int>(batches.size()) == now_.train().accumulation(),
           "step {} has {} micro-batches, expected {}", state.step, batches.size(),
           now_.train().accumulation());
  return batches;
}

std::vector<std::string> Training::update(const StepOutcome& outcome) {
  state.losses.add(outcome.loss);
  ++state.step;
  state.tokens += tokens_of_step();
  state.data = loader_->cursor();
  track_experts(outcome.stats, state.step, state.last_active);
  if (!outcome.is_finite()) {
    ++state.skipped_steps;
    ++state.skipped_in_a_row;
    return {};
  }
  state.skipped_in_a_row = 0;
  update_weights(instance, *optimizer, now_, outcome);
  return revive_experts(config_, instance, outcome.stats, state.step, state.last_active);
}

int64_t Training::tokens_of_step() const {
  return int64_t{now_.train().global_batch()} * now_.data().sequence_length();
}

std::string Training::place_of_batch() const {
  const int64_t last = loader_->cursor().sequence;
  std::map<size_t, std::vector<int64_t>> places;  // by source, of the rows' first tokens
  for (Cursor cursor = state.data; cursor.sequence < last;) {
    const Draw draw = blend.next(cursor);
    places[draw.source].push_back(draw.sample * blend.length());
  }
  std::string text = fmt::format("sequences {} to {}", state.data.sequence, last - 1);
  for (const auto& [source, tokens] : places)
    text +=
        fmt::format("; {} at token(s) {}", blend.source(source).name(), fmt::join(tokens, ", "));
  return text;
}

int64_t Training::tokens_left() const {
  return config::sequences_left(config_, {state.step, state.tokens}) *
         config_.data().sequence_length();
}

}  // namespace switchyard::trainer
