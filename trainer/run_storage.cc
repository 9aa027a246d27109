#include "trainer/run_storage.h"

#include <ctime>
#include <limits>

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/base/log.h"
#include "core/base/seconds.h"
#include "parallel/agreement.h"
#include "parallel/crash_report.h"
#include "parallel/flight_report.h"
#include "trainer/checkpoint/folder.h"
#include "trainer/start_checks.h"

namespace switchyard::trainer {
namespace {

constexpr int kKeepAll = std::numeric_limits<int>::max();

// A disk may take longer than runtime.timeout_seconds for a save, though not for one step of it.
FileSystem watched_files(parallel::Communicator& world, FileStepHook fault) {
  return FileSystem([&world, fault = std::move(fault)](FileStep step, const std::string& path) {
    world.beat(fmt::format("{} {}", name_of(step), path.substr(path.rfind('/') + 1)));
    if (fault) fault(step, path);
  });
}

}  // namespace

RunStorage::RunStorage(const config::RunConfig& config, parallel::Communicator& world)
    : world_(world), folder_(config) {
  const std::vector<std::string> texts = parallel::agree(world_, "open run folder", [&] {
    if (world_.rank() > 0) return std::string();
    FileSystem().create_directory(folder_.checkpoints());
    lock_ = std::make_unique<RunLock>(folder_.path);
    require_regular_or_absent(folder_.log());
    start_log(0, world_.size(), folder_.log());
    return fmt::format("{:%Y%m%dT%H%M%SZ}", fmt::gmtime(std::time(nullptr)));
  });
  parallel::set_crash_file(folder_.crash(world_.rank()));
  parallel::set_flight_folder(folder_.hang(/*start=*/texts[0]));
  try_storage(FileSystem(), folder_.checkpoints(), world_);
}

void RunStorage::check_held() const {
  if (lock_) lock_->check_held();
}

void RunStorage::go_on_from(int64_t step) { saved_ = branch_from_ = step; }

void RunStorage::abandon_branch() {
  if (branch_from_ < 0) return;
  std::vector<std::string> abandoned;
  parallel::do_on_all(world_, "abandoned steps", [&] {
    if (world_.rank() == 0)
      abandoned = abandon_later_steps(FileSystem(), folder_.checkpoints(), branch_from_);
  });
  if (!abandoned.empty())
    info("went back to step {}: what was saved after it is kept as {}", branch_from_,
         fmt::join(abandoned, ", "));
  branch_from_ = -1;
}

void RunStorage::save(const CheckpointContent& content, const parallel::Mesh& mesh,
                      FileStepHook fault) {
  finish_saving();
  const TrainingState& state = content.state;
  saved_ = state.step;
  check_held();
  abandon_branch();
  const config::Checkpoint& asked = content.config.checkpoint();
  const int keep = state.skipped_in_a_row > 0 ? kKeepAll : asked.keep();
  if (asked.asynchronous()) {
    background_ = std::make_unique<BackgroundSave>(std::move(fault), folder_.checkpoints(), content,
                                                   mesh, keep);
  } else {
    save_checkpoint(watched_files(world_, std::move(fault)), folder_.checkpoints(), content, mesh,
                    keep);
    completed_.push_back(state.step);
  }
  saved_at_ = std::chrono::steady_clock::now();
}

void RunStorage::advance_saving() {
  if (!background_->advance()) return;
  completed_.push_back(background_->step());
  background_.reset();
}

void RunStorage::finish_saving() {
  while (is_saving()) advance_saving();
}

double RunStorage::minutes_since_save() const { return seconds_since(saved_at_) / 60; }

}  // namespace switchyard::trainer
