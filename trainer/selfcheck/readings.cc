#include "trainer/selfcheck/readings.h"

#include <map>

#include <fmt/format.h>

#include "core/tensor/aten.h"
#include "trainer/training.h"

namespace switchyard::trainer {
namespace {

// Of each router one reading, with a box for each micro-batch.
void show_routing(const std::vector<models::SlotRecord>& slots, int64_t step,
                  const Observer& observe) {
  std::map<int64_t, Reading> readings;
  for (const models::SlotRecord& record : slots) {
    Reading& reading =
        readings
            .try_emplace(record.router,
                         Reading{Quantity::kRouting, step, fmt::format("router {}", record.router)})
            .first->second;
    const at::Tensor decided_TK = record.expert_TK * 2 + record.is_kept_TK.to(at::kLong);
    reading.boxes.push_back({{{record.first_token, 0}, decided_TK.sizes().vec()}, decided_TK});
  }
  for (const auto& [router, reading] : readings) observe(reading);
}

void show_number(Quantity quantity, int64_t step, double value, const Observer& observe) {
  observe(
      {quantity, step, name_of(quantity), {1}, {{{{0}, {1}}, at::full({1}, value, at::kDouble)}}});
}

void show_gradients(const ParameterTable& table, int64_t step, const Observer& observe) {
  for (const Parameter& parameter : table.parameters()) {
    if (!parameter.trains) continue;
    observe({Quantity::kGradient, step, parameter.name, parameter.shape,
             boxes_of(parameter, /*missing_dim=*/-1, parameter.owned_gradient())});
  }
}

void show_stored(Quantity quantity, int64_t step, const std::vector<StoredTensor>& tensors,
                 const Observer& observe) {
  for (const StoredTensor& tensor : tensors)
    observe({quantity, step, tensor.name, tensor.shape, tensor.boxes});
}

}  // namespace

const char* name_of(Quantity quantity) {
  switch (quantity) {
    case Quantity::kRouting:
      return "routing";
    case Quantity::kLoss:
      return "loss";
    case Quantity::kGradient:
      return "gradients";
    case Quantity::kNorm:
      return "gradient norm";
    case Quantity::kState:
      return "optimizer state";
    case Quantity::kWeight:
      return "weights";
  }
  return "?";
}

void train_watched(const config::RunConfig& config, parallel::Communicator& world,
                   const Watch& watch) {
  Training training(config, open_training_data(config, world), world);
  ParameterTable& table = training.instance.parameters;
  fill_first_weights(config, table);
  if (watch.mistake && watch.mistake->begin) watch.mistake->begin(training);
  training.begin();
  for (int64_t step = 1; step <= watch.steps; ++step) {
    std::vector<models::SlotRecord> slots;
    StepOutcome outcome = training.compute(/*loss_factor=*/1, &slots);
    if (watch.mistake && watch.mistake->computed) watch.mistake->computed(training, outcome);
    show_routing(slots, step, watch.observe);
    show_number(Quantity::kLoss, step, outcome.loss, watch.observe);
    show_gradients(table, step, watch.observe);
    show_number(Quantity::kNorm, step, outcome.gradient_norm, watch.observe);
    training.update(outcome);
    if (watch.step_done) watch.step_done(step);
  }
  show_stored(Quantity::kState, watch.steps, stored_state(*training.optimizer), watch.observe);
  show_stored(Quantity::kWeight, watch.steps, stored_weights(table), watch.observe);
}

}  // namespace switchyard::trainer
