#pragma once
// The training run: data, forward and backward, reduction, update; now and then a log line, an
// evaluation, a checkpoint.

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/base/errors.h"
#include "core/config/run_config.pb.h"
#include "core/data/loader.h"
#include "core/data/tokenizer.h"
#include "optim/optimizer.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/data_sources.h"
#include "trainer/inject.h"
#include "trainer/log/metrics_log.h"
#include "trainer/log/speedometer.h"
#include "trainer/model_instance.h"
#include "trainer/run_folder.h"
#include "trainer/run_lock.h"
#include "trainer/signals.h"

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
  // faults: those that this rank shows on order.
  Trainer(const config::RunConfig& config, parallel::Communicator& world, const Resume& resume,
          FaultInjector faults = {});

  // **Collective.** Trains to the last step. kPreempted: stopped early by a signal (or
  // train.stop_after_steps), saved.
  ExitCode run();

  // What one step is judged by, the same on all ranks.
  struct StepResult {
    double loss = 0;
    double gradient_norm = 0;
    double learning_rate = 0;
    bool stop_requested = false;
    bool save_is_due = false;  // by rank 0's clock
    // Where the loss is above those of the steps before by log.spike_sigmas: by how many.
    std::optional<double> spike;
    parallel::NamedSums sums;                 // of all ranks: what the model reports
    std::vector<models::RoutingStats> stats;  // of this rank
    bool is_finite() const;
  };
  // The two halves of a step, for run() and for benchmarks: **collective** forward, backward and
  // reduction; then the update, collective too where routers have a selection bias.
  StepResult train_step();
  void update(const StepResult& result);

 private:
  void open_run_folder();
  void open_metrics();  // rank 0
  void start_from(const Resume& resume);
  void start_anew();
  void restore(const CheckpointReader& checkpoint);
  void warn_of_other_bits(const CheckpointReader& checkpoint) const;
  void print_banner();

  std::vector<Batch> next_batches();
  void reduce(StepResult& result);
  double forward_backward(const std::vector<Batch>& batches, StepResult& result);
  models::StepContext context_of(const Batch& batch, StepResult& result) const;
  void track_experts(const std::vector<models::RoutingStats>& stats);
  // **Collective** with an action on dead experts; else nothing.
  void revive_experts(const std::vector<models::RoutingStats>& stats);
  bool is_dead(int64_t last_active) const;
  // **Collective.** The latest step over all ranks at which each expert had a token.
  void agree_on_activity();

  void log(StepResult& result);
  std::string place_of_batch() const;  // of the step under way
  void evaluate_now();
  void save();
  void save_unless_skipping();
  void abandon_branch();  // **collective**
  bool is_due(int64_t every) const;
  // Rank 0's clock decides for all.
  bool is_time_to_save() const;
  // Whether the step's predictions are as good as train.stop_below_error asks; then the run is
  // over.
  bool reached_goal(const StepResult& result);
  bool is_last() const { return is_over_ || state_.step >= config_.train().steps(); }
  void show_progress();
  int64_t tokens_of_step() const;  // of the step under way
  void say(const std::string& text);

  config::RunConfig config_;
  config::RunConfig now_;  // config_ in force in the step under way
  parallel::Communicator& world_;
  RunFolder folder_;
  std::unique_ptr<RunLock> lock_;         // rank 0
  std::unique_ptr<Tokenizer> tokenizer_;  // null with generated tokens
  ModelInstance instance_;
  std::unique_ptr<optim::Optimizer> optimizer_;
  RunData data_;
  Blend blend_;
  TrainingState state_;
  int64_t num_tokens_ = 0;  // state_.tokens at the end of the run
  std::unique_ptr<BatchLoader> loader_;
  std::unique_ptr<MetricsLog> metrics_;  // rank 0
  Speedometer speed_;
  std::chrono::steady_clock::time_point saved_at_ = std::chrono::steady_clock::now();
  StopSignals signals_;
  FaultInjector faults_;
  int64_t last_saved_ = -1, last_evaluated_ = -1;
  // The step that was resumed, until what was saved after it has been renamed: at once where the
  // run goes back, else before the first save. -1: none.
  int64_t branch_from_ = -1;
  bool is_over_ = false;  // before its last step
};

}  // namespace switchyard::trainer
