#include "trainer/run_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include <fmt/format.h>

#include "core/base/errors.h"
#include "core/base/foreign_text.h"
#include "core/base/process.h"
#include "core/io/file_system.h"

namespace switchyard::trainer {
namespace {

constexpr uint64_t kMaxHolderBytes = 4096;

std::string holder_of(const std::string& path) {
  std::string text = read_text_file(path, kMaxHolderBytes);
  if (text.ends_with('\n')) text.pop_back();
  return text.empty() ? "unknown holder" : in_quotes(text);
}

// For the message of whoever comes second.
void write_holder(const FileDescriptor& file, const std::string& path) {
  const std::string holder = fmt::format("host {}, process {}\n", host_name(), ::getpid());
  const bool written =
      ::ftruncate(file.get(), 0) == 0 &&
      ::pwrite(file.get(), holder.data(), holder.size(), 0) == static_cast<ssize_t>(holder.size());
  if (!written) throw_storage_error(fmt::format("write {}", path), path, errno);
}

FileDescriptor take(const std::string& path) {
  require_regular_or_absent(path);
  // A link could make two runs share a lock, or have a file outside the run overwritten.
  constexpr int kFlags = O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW;
  FileDescriptor file(::open(path.c_str(), kFlags, 0644));
  if (file.get() < 0 && errno == ELOOP)
    throw StorageError(fmt::format("{} is a symbolic link, expected a file; remove it", path));
  if (file.get() < 0) throw_storage_error(fmt::format("open {}", path), path, errno);
  if (::flock(file.get(), LOCK_EX | LOCK_NB) == 0) {
    write_holder(file, path);
    return file;
  }
  if (errno != EWOULDBLOCK) throw_storage_error(fmt::format("lock {}", path), path, errno);
  throw CheckpointError(
      fmt::format("{}: another job is using this run's folder: {}; wait for it, end it, or give "
                  "this run another name",
                  path, holder_of(path)));
}

std::string lock_in(const std::string& folder) {
  FileSystem().create_directory(folder);
  return folder + "/run.lock";
}

}  // namespace

RunLock::RunLock(const std::string& folder) : path_(lock_in(folder)), file_(take(path_)) {}

void RunLock::check_held() const {
  struct stat held {
  }, there{};
  if (::fstat(file_.get(), &held) == 0 && ::lstat(path_.c_str(), &there) == 0 &&
      held.st_dev == there.st_dev && held.st_ino == there.st_ino)
    return;
  throw StorageError(
      fmt::format("{}: not the file any more that this job locked; the run's folder was removed, "
                  "moved or replaced while it trained. Its last checkpoint, where it is now, is "
                  "what to resume from",
                  path_));
}

}  // namespace switchyard::trainer
