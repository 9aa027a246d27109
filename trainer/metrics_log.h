#pragma once
// Where a run's numbers go: console or progress bar, JSON lines, TensorBoard. Rank 0 owns one.

#include <memory>
#include <string>
#include <vector>

#include "core/io/event_file.h"
#include "core/io/json_lines.h"
#include "trainer/evaluate.h"
#include "trainer/log/progress.h"
#include "trainer/log/step_record.h"
#include "trainer/run_folder.h"

namespace switchyard::trainer {

class MetricsLog {
 public:
  // Drops what the files say of steps after `resumed_step`: they will be done again.
  MetricsLog(const RunFolder& folder, int64_t resumed_step);

  void log_step(const StepRecord& record);
  // suffix: loss_suffix() of the run.
  void log_evaluation(int64_t step, const std::vector<SourceResult>& results,
                      const std::string& suffix);
  // A line of text for people, on the console and in the run's log.
  void say(const std::string& text);
  // After each step, logged or not: moves the progress bar on a terminal.
  void tick(int64_t step, int64_t num_steps, double eta_seconds);

 private:
  void write(JsonLinesWriter& file, int64_t step, const JsonLinesRecord& record);

  ProgressBar bar_;
  std::unique_ptr<JsonLinesWriter> metrics_, timing_;
  std::unique_ptr<EventFile> events_;
};

}  // namespace switchyard::trainer
