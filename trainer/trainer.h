#pragma once
// The training run: step after step, and now and then a log line, an evaluation, a checkpoint. What
// a step is stands in trainer/training.h.

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/base/errors.h"
#include "core/config/run_config.pb.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/inject.h"
#include "trainer/log/rank_times.h"
#include "trainer/log/speedometer.h"
#include "trainer/metrics_log.h"
#include "trainer/run_storage.h"
#include "trainer/signals.h"
#include "trainer/training.h"

namespace switchyard::trainer {

// Where a run starts from.
struct Resume {
  enum Kind {
    kAuto,
    kNever,
    kPath
  } kind = kAuto;    // kAuto: the run folder's newest valid checkpoint, if any
  std::string path;  // kPath: a checkpoint folder
};

class Trainer {
 public:
  // **Collective** over `world`, which must outlive it. The config is resolved and the same on all
  // ranks. Opens data and the run folder, builds the model, loads the checkpoint to resume from.
  // faults: those that --inject asks of this rank.
  Trainer(const config::RunConfig& config, parallel::Communicator& world, const Resume& resume,
          FaultInjector faults = {});

  // **Collective.** Trains to the last step. kPreempted: stopped early by a signal (or
  // train.stop_after_steps), saved.
  ExitCode run();

 private:
  void open_metrics();  // rank 0
  void start_from(const Resume& resume);
  void restore(const CheckpointReader& checkpoint);
  void warn_of_other_bits(const CheckpointReader& checkpoint) const;
  void print_banner();

  // The two halves of a step.
  StepOutcome compute();
  void update(const StepOutcome& outcome);
  // Where the loss is above those of the steps before by log.spike_sigmas: by how many. Says so.
  std::optional<double> find_spike(double loss);
  // Whether the step's predictions are as good as train.stop_below_error asks; then the run is
  // over.
  bool reached_goal(const StepOutcome& outcome);

  struct Votes {
    bool stop = false, save = false;
    bool save_goes_on = false;  // a save in the background waits for its next collective part
  };
  // **Collective.** Any rank may have got a signal to stop; rank 0's clock says when to save.
  Votes vote();

  // **Collective.** stats: of this rank.
  void log(const StepOutcome& outcome, std::optional<double> spike);
  std::vector<LayerHealth> health_of_layers(std::vector<models::RoutingStats> stats) const;
  void evaluate_now(bool prints_tables);
  void save();
  void save_unless_skipping();
  // **Collective.** Waits for a save in the background.
  void finish_saving();
  void say_what_is_saved();
  bool is_due(int64_t every) const { return every > 0 && step() % every == 0; }
  bool is_last() const { return step() >= config_.train().steps(); }
  int64_t step() const { return training_.state.step; }
  void show_progress();
  void say(const std::string& text);

  config::RunConfig config_;
  parallel::Communicator& world_;
  Training training_;
  RunStorage storage_;
  int64_t last_evaluated_ = -1;
  std::unique_ptr<MetricsLog> metrics_;  // rank 0
  Speedometer speed_;
  RankTimes rank_times_;
  StopSignals signals_;
  FaultInjector faults_;
};

}  // namespace switchyard::trainer
