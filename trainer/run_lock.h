#pragma once
// One job per run folder.

#include <string>

#include "core/io/file.h"

namespace switchyard::trainer {

// Holds <folder>/run.lock while it lives. The kernel frees it when the process ends, however it
// ends, so no lock is ever stale. Rank 0 takes it for its job.
class RunLock {
 public:
  // Creates the folder if need be. CheckpointError naming host and process id if another job holds
  // the lock; StorageError if the folder cannot be written.
  explicit RunLock(const std::string& folder);

  // Throws StorageError once the folder was removed, moved or replaced: another job could use its
  // name, and what this one writes would not be found.
  void check_held() const;

 private:
  std::string path_;
  FileDescriptor file_;
};

}  // namespace switchyard::trainer
