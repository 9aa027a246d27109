#pragma once
// Values that change during training: what the schedules of a resolved config say at a point of the
// run.

#include <cstdint>
#include <string>
#include <vector>

#include "core/config/run_config.pb.h"

namespace switchyard::config {

// How far a run is before a step.
struct Progress {
  int64_t step = 0;    // steps done
  int64_t tokens = 0;  // seen in them: sequences drawn * data.sequence_length
};

// Paths of the fields that may have a schedule.
const std::vector<std::string>& schedulable_fields();

// The schedule's value there, for a field that says `start`. Requires: points as validation demands
// them.
double value_at(const ValueSchedule& schedule, double start, const Progress& progress);

// Gives a schedulable field that is set this value. A batch is rounded down to whole micro-batches
// of the config's size, and train.accumulation becomes their number.
void set_value(RunConfig& config, const std::string& field, double value);

// The config of the step that begins there: every scheduled field has its value, and no schedule is
// left. So a larger batch has more micro-batches, not larger ones.
RunConfig in_force(const RunConfig& config, const Progress& progress);

// Sequences of that step: in_force()'s train.global_batch without the rest.
int64_t global_batch_at(const RunConfig& config, const Progress& progress);

// Sequences of all steps from there to the last. Of more than ten million steps an estimate, which
// looks at some of them.
int64_t sequences_left(const RunConfig& config, Progress progress);

// No step has more sequences.
int64_t largest_batch(const RunConfig& config);

}  // namespace switchyard::config
