#pragma once
// A run's folder while a job has it: its lock, and the checkpoints that the job saves there.

#include <chrono>
#include <memory>
#include <utility>
#include <vector>

#include "core/config/run_config.pb.h"
#include "trainer/checkpoint/background_save.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/run_folder.h"
#include "trainer/run_lock.h"

namespace switchyard::trainer {

class RunStorage {
 public:
  // **Collective** over `world`, which must outlive it. The folder is this job's when it returns,
  // its log is begun, and every rank has written there for a trial.
  RunStorage(const config::RunConfig& config, parallel::Communicator& world);

  const RunFolder& folder() const { return folder_; }
  // StorageError once the folder is not this job's any more. Rank 0 has the lock and looks.
  void check_held() const;

  // The run goes on from this saved step. What was saved after it is another branch, which
  // abandon_branch() renames: at once if the caller asks for it, else before the next save.
  void go_on_from(int64_t step);
  // **Collective.** Renames the checkpoints after the step that the run goes on from, so that no
  // later start chooses one of them. Does nothing in a new run, and nothing when called again.
  void abandon_branch();

  // Whether the step was the last to be saved, or the one that the run goes on from.
  bool has(int64_t step) const { return saved_ == step; }
  // **Collective.** Saves the step of content.state, and removes old checkpoints unless the last
  // steps were skipped. With checkpoint.asynchronous it only begins to, once the save before is
  // done. fault: what FaultInjector::during_save() returns. Throws as save_checkpoint() does.
  void save(const CheckpointContent& content, const parallel::Mesh& mesh, FileStepHook fault);
  // Whether a save in the background is under way, alike on all ranks, and whether this rank's
  // part of it keeps its next part waiting.
  bool is_saving() const { return background_ != nullptr; }
  bool is_writing() const { return background_ && background_->is_busy(); }
  // **Collective** while is_saving(). Gets on with the save in the background, without waiting if
  // no rank is writing.
  void advance_saving();
  // **Collective.** Waits until nothing is being saved in the background.
  void finish_saving();
  double minutes_since_save() const;
  // The steps whose saves have been completed since the last call.
  std::vector<int64_t> take_completed() { return std::exchange(completed_, {}); }

 private:
  parallel::Communicator& world_;
  RunFolder folder_;
  std::unique_ptr<RunLock> lock_;  // rank 0
  std::unique_ptr<BackgroundSave> background_;
  std::vector<int64_t> completed_;
  int64_t saved_ = -1;
  int64_t branch_from_ = -1;  // until abandon_branch(); -1: nothing to abandon
  std::chrono::steady_clock::time_point saved_at_ = std::chrono::steady_clock::now();
};

}  // namespace switchyard::trainer
