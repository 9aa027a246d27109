#pragma once
// A save whose slow parts run on a thread while training goes on. What ranks tell each other stays
// on the thread that trains, so that no communicator has two users:
//     copy, folder     collective, when it is made
//     files            each rank's thread
//     reports          collective, once every rank's files are written
//     commit           rank 0's thread
//     outcome          collective
// The protocol on disk is save_checkpoint()'s, as are the bytes.

#include <atomic>
#include <exception>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "trainer/checkpoint/draft.h"

namespace switchyard::trainer {

class BackgroundSave {
 public:
  // **Collective.** Copies what this rank will write, and begins. Arguments and errors as
  // save_checkpoint() has them; mesh must outlive this.
  BackgroundSave(FileStepHook hook, const std::string& folder, const CheckpointContent& content,
                 const parallel::Mesh& mesh, int keep);
  // Ends the thread at its next step on disk: what is not committed stays undone.
  ~BackgroundSave();
  BackgroundSave(const BackgroundSave&) = delete;
  BackgroundSave& operator=(const BackgroundSave&) = delete;

  int64_t step() const { return draft_.manifest.state.step; }
  // Whether this rank's thread is at work.
  bool is_busy() const { return is_busy_; }
  // Waits until it is not; shows the deadlines' board that it gets on.
  void wait();
  // **Collective.** The next collective part; waits for the thread first. Returns whether the step
  // is saved now. Where a part failed on any rank, all throw its error, and the earlier checkpoints
  // are as they were.
  bool advance();

 private:
  // Does `part` on the thread; take_error() rethrows what it throws.
  void start(std::function<void()> part);
  void take_error();

  const parallel::Mesh& mesh_;
  std::atomic<bool> is_busy_ = false, is_given_up_ = false;
  std::atomic<int64_t> steps_on_disk_ = 0;
  FileSystem files_;  // counts its steps
  Draft draft_;
  std::vector<std::string> reports_;  // of all ranks, once they are there
  std::string own_report_;
  std::exception_ptr error_;  // the thread's, once it is not busy
  std::thread thread_;
};

}  // namespace switchyard::trainer
