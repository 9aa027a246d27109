#include "core/config/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/base/errors.h"
#include "core/config/fields.h"

namespace switchyard::config {
namespace {

constexpr char kBatch[] = "train.global_batch";
constexpr int64_t kCountedSteps = 10'000'000;

// Where a point lies, in the unit of its schedule.
double coordinate(const SchedulePoint& point) {
  return static_cast<double>(point.has_tokens() ? point.tokens() : point.step());
}

// The part of `change` that is made after `done` of `length` steps or tokens. Whole numbers stay
// exact where they can: a batch is rounded down.
double part_of(double change, Approach approach, double done, double length) {
  switch (approach) {
    case LINEARLY:
      return change * done / length;
    case BY_COSINE:
      return change * (1 - std::cos(std::numbers::pi * done / length)) / 2;
    default:
      return 0;
  }
}

const ValueSchedule* batch_schedule(const RunConfig& config) {
  for (const ValueSchedule& schedule : config.schedule())
    if (schedule.field() == kBatch) return &schedule;
  return nullptr;
}

}  // namespace

const std::vector<std::string>& schedulable_fields() {
  static const std::vector<std::string> kFields = {
      "optimizer.lr",
      "optimizer.weight_decay",
      "model.output_z_loss_coefficient",
      "model.mtp.weight",
      "model.moe.balance_loss.coefficient",
      "model.moe.balance_loss.device_coefficient",
      "model.moe.balance_loss.communication_coefficient",
      "model.moe.z_loss_coefficient",
      "model.moe.importance_loss_coefficient",
      "model.moe.load_loss_coefficient",
      "model.moe.router.bias_update_rate",
      kBatch,
  };
  return kFields;
}

double value_at(const ValueSchedule& schedule, double start, const Progress& progress) {
  const bool by_tokens = schedule.point_size() > 0 && schedule.point(0).has_tokens();
  const auto here = static_cast<double>(by_tokens ? progress.tokens : progress.step);
  double from = 0, value = start;
  for (const SchedulePoint& point : schedule.point()) {
    const double to = coordinate(point);
    if (here < to)
      return value + part_of(point.value() - value, point.approach(), here - from, to - from);
    from = to;
    value = point.value();
  }
  return value;
}

void set_value(RunConfig& config, const std::string& field, double value) {
  if (field != kBatch) return set_real_at(config, field, value);
  Train& train = *config.mutable_train();
  const int sequences = train.global_batch() / train.accumulation();
  train.set_accumulation(static_cast<int>(value) / sequences);
  train.set_global_batch(train.accumulation() * sequences);
}

RunConfig in_force(const RunConfig& config, const Progress& progress) {
  RunConfig now = config;
  now.clear_schedule();
  for (const ValueSchedule& schedule : config.schedule()) {
    const auto start = number_at(config, schedule.field());
    SY_CHECK(start.has_value(), "{} has a schedule and no value", schedule.field());
    set_value(now, schedule.field(), value_at(schedule, *start, progress));
  }
  return now;
}

int64_t global_batch_at(const RunConfig& config, const Progress& progress) {
  const int64_t base = config.train().global_batch();
  const ValueSchedule* schedule = batch_schedule(config);
  if (!schedule) return base;
  const int64_t sequences = base / config.train().accumulation();
  const double value = value_at(*schedule, static_cast<double>(base), progress);
  return static_cast<int64_t>(value) / sequences * sequences;
}

int64_t sequences_left(const RunConfig& config, Progress progress) {
  const int64_t steps = std::max<int64_t>(0, config.train().steps() - progress.step);
  if (!batch_schedule(config)) return steps * config.train().global_batch();
  const int64_t stride = steps / kCountedSteps + 1;
  int64_t sequences = 0;
  for (int64_t left = steps; left > 0;) {
    const int64_t now = std::min(left, stride);
    const int64_t drawn = now * global_batch_at(config, progress);
    sequences += drawn;
    progress.step += now;
    progress.tokens += drawn * config.data().sequence_length();
    left -= now;
  }
  return sequences;
}

int64_t largest_batch(const RunConfig& config) {
  double largest = config.train().global_batch();
  if (const ValueSchedule* schedule = batch_schedule(config))
    for (const SchedulePoint& point : schedule->point()) largest = std::max(largest, point.value());
  return static_cast<int64_t>(largest);
}

}  // namespace switchyard::config
