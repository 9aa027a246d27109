// Rules about values that change during training.

#include <algorithm>
#include <limits>

#include "core/base/foreign_text.h"
#include "core/config/fields.h"
#include "core/config/schedule.h"
#include "core/config/suggest.h"
#include "core/config/validate_rules.h"

namespace switchyard::config {
namespace {

bool may_be_scheduled(const std::string& field) {
  const auto& fields = schedulable_fields();
  return std::find(fields.begin(), fields.end(), field) != fields.end();
}

// Whether the schedule's field can have one; its values are worth a look only then.
bool check_field(const RunConfig& config, const std::string& field, const std::string& path,
                 Findings& findings) {
  if (!may_be_scheduled(field)) {
    findings.add("{}.field ({}) must be a value that may change during training{}", path,
                 in_quotes(field), suggestion(field, schedulable_fields()));
    return false;
  }
  if (!has_at(config, field)) {  // a field that nothing reads is unset
    findings.add(
        "{}.field ({}) has no meaning in this config, whose model has nothing of the kind; leave "
        "the schedule out, or set what it is a part of",
        path, in_quotes(field));
    return false;
  }
  if (field == "optimizer.lr" && config.optimizer().schedule() != CONSTANT) {
    findings.add(
        "{}.field (\"optimizer.lr\") needs optimizer.schedule CONSTANT, got {}: the rate would "
        "have two schedules; set CONSTANT or leave one of them out",
        path, Schedule_Name(config.optimizer().schedule()));
    return false;
  }
  return true;
}

// All points have one unit, and each comes after the one before.
void check_positions(const ValueSchedule& schedule, const std::string& path, Findings& findings) {
  const bool by_tokens = schedule.point_size() > 0 && schedule.point(0).has_tokens();
  int64_t earlier = -1;
  for (int i = 0; i < schedule.point_size(); ++i) {
    const SchedulePoint& point = schedule.point(i);
    const std::string here = fmt::format("{}.point[{}]", path, i);
    if (point.has_step() == point.has_tokens()) {
      findings.add("{} must have either step or tokens, got {}; set one of them", here,
                   point.has_step() ? "both" : "neither");
      return;
    }
    const char* unit = by_tokens ? "tokens" : "step";
    if (point.has_tokens() != by_tokens) {
      findings.add(
          "{}.{} is set, but point[0] of the schedule has {}; use one of them in all points", here,
          point.has_tokens() ? "tokens" : "step", unit);
      return;
    }
    const int64_t position = by_tokens ? point.tokens() : point.step();
    if (position <= earlier) {
      findings.add("{}.{} ({}) must be {}; raise it or put the points in order", here, unit,
                   position,
                   i == 0 ? "at least 0" : fmt::format("above the point's before ({})", earlier));
      return;
    }
    earlier = position;
  }
}

// Whether no batch is smaller than the first, which is one of whole micro-batches.
bool check_batches(const ValueSchedule& schedule, const RunConfig& config, const std::string& path,
                   Findings& findings) {
  const int base = config.train().global_batch();
  const size_t before = findings.lines.size();
  for (int i = 0; i < schedule.point_size(); ++i) {
    if (!schedule.point(i).has_value()) continue;
    const double value = schedule.point(i).value();
    const bool fits = value >= base && value <= std::numeric_limits<int32_t>::max();
    if (!fits)  // nor does NaN
      findings.add(
          "{}.point[{}].value ({}) must be at least train.global_batch ({}), the smallest batch, "
          "and at most {}; raise it, or lower train.global_batch",
          path, i, value, base, std::numeric_limits<int32_t>::max());
  }
  const int micro_batches = config.train().accumulation();
  return base > 0 && micro_batches > 0 && base % micro_batches == 0 &&
         findings.lines.size() == before;
}

std::vector<std::string> rules_broken_by(const RunConfig& config) {
  Findings findings;
  check_values(config, /*num_ranks=*/0, findings);
  return findings.lines;
}

// With every value in its field the config must be as sound as it is without.
void try_values(const ValueSchedule& schedule, const RunConfig& config, const std::string& path,
                Findings& findings) {
  const std::vector<std::string> before = rules_broken_by(config);
  for (int i = 0; i < schedule.point_size(); ++i) {
    if (!schedule.point(i).has_value()) continue;
    const double value = schedule.point(i).value();
    if (schedule.field() == "optimizer.lr" && value == 0) continue;  // where a decay may end
    RunConfig there = config;
    set_value(there, schedule.field(), value);
    for (const std::string& rule : rules_broken_by(there))
      if (std::find(before.begin(), before.end(), rule) == before.end())
        findings.add("{}.point[{}].value ({}) would break a rule: {}", path, i, value, rule);
  }
}

}  // namespace

void need_schedules(const RunConfig& config, Findings& findings) {
  for (int i = 0; i < config.schedule_size(); ++i) {
    const ValueSchedule& schedule = config.schedule(i);
    if (!schedule.has_field())
      findings.add("schedule[{}].field is not set; set the path of the field that changes", i);
    if (schedule.point_size() == 0)
      findings.add(
          "schedule[{}].point is empty; add point {{ step: ... value: ... }} or leave the schedule "
          "out",
          i);
    for (int j = 0; j < schedule.point_size(); ++j)
      if (!schedule.point(j).has_value())
        findings.add("schedule[{}].point[{}].value is not set; set the value from there on", i, j);
  }
}

void check_schedules(const RunConfig& config, Findings& findings) {
  for (int i = 0; i < config.schedule_size(); ++i) {
    const ValueSchedule& schedule = config.schedule(i);
    const std::string path = fmt::format("schedule[{}]", i);
    check_positions(schedule, path, findings);
    if (!schedule.has_field() || !check_field(config, schedule.field(), path, findings)) continue;
    for (int j = 0; j < i; ++j)
      if (config.schedule(j).field() == schedule.field())
        findings.add("{}.field ({}) has schedule[{}] already; put the points of both in one", path,
                     in_quotes(schedule.field()), j);
    if (schedule.field() != "train.global_batch" || check_batches(schedule, config, path, findings))
      try_values(schedule, config, path, findings);
  }
}

}  // namespace switchyard::config
