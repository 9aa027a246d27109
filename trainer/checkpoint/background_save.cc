#include "trainer/checkpoint/background_save.h"

#include <chrono>
#include <utility>

#include "core/base/errors.h"
#include "parallel/agreement.h"

namespace switchyard::trainer {

BackgroundSave::BackgroundSave(FileStepHook hook, const std::string& folder,
                               const CheckpointContent& content, const parallel::Mesh& mesh,
                               int keep)
    : mesh_(mesh),
      files_([this, hook = std::move(hook)](FileStep step, const std::string& path) {
        if (is_given_up_) throw StorageError("a save was given up");
        ++steps_on_disk_;
        if (hook) hook(step, path);
      }),
      draft_(begin_draft(files_, folder, content, mesh, keep, DraftMemory::kCopy)) {
  start([this] { own_report_ = write_share(files_, draft_); });
}

BackgroundSave::~BackgroundSave() {
  is_given_up_ = true;
  if (thread_.joinable()) thread_.join();
}

void BackgroundSave::start(std::function<void()> part) {
  is_busy_ = true;
  thread_ = std::thread([this, part = std::move(part)] {
    try {
      part();
    } catch (...) {
      error_ = std::current_exception();
    }
    is_busy_ = false;
  });
}

void BackgroundSave::wait() {
  int64_t seen = -1;
  while (is_busy_) {
    if (const int64_t now = steps_on_disk_; now != seen) {
      mesh_.control().beat("a save in the background");
      seen = now;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  if (thread_.joinable()) thread_.join();
}

void BackgroundSave::take_error() {
  if (const std::exception_ptr error = std::exchange(error_, nullptr))
    std::rethrow_exception(error);
}

bool BackgroundSave::advance() {
  wait();
  const bool was_committing = !reports_.empty();
  run_or_discard(files_, draft_, [&] {
    if (was_committing)
      parallel::do_on_all(mesh_.control(), "checkpoint commit", [&] { take_error(); });
    else
      reports_ = parallel::agree(mesh_.control(), "checkpoint shards", [&] {
        take_error();
        return own_report_;
      });
  });
  if (!was_committing && draft_.is_first) start([this] { commit_draft(files_, draft_, reports_); });
  return was_committing;
}

}  // namespace switchyard::trainer
