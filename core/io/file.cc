#include "core/io/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "core/base/errors.h"

namespace switchyard {
namespace {

// Linux moves at most about 2 GiB per call; smaller calls also keep a SIGTERM's answer prompt.
constexpr size_t kMaxCallBytes = size_t{1} << 30;

// Repeats a system call that a signal interrupted.
template <typename Call>
auto retry(Call call) {
  auto result = call();
  while (result < 0 && errno == EINTR) result = call();
  return result;
}

std::string advice(const std::string& path, int error, uint64_t needed_bytes) {
  switch (error) {
    case ENOSPC:
    case EDQUOT: {
      struct statvfs info;
      if (::statvfs(path.c_str(), &info) != 0) return "; free some space";
      const std::string needed =
          needed_bytes > 0 ? fmt::format("needed {} bytes, ", needed_bytes) : "";
      return fmt::format("; {}{} bytes are free; free some space or choose another folder", needed,
                         uint64_t{info.f_bavail} * info.f_frsize);
    }
    case EMFILE: {
      struct rlimit limit {};
      ::getrlimit(RLIMIT_NOFILE, &limit);
      return fmt::format("; this process may hold {} files open, raise it with `ulimit -n`",
                         limit.rlim_cur);
    }
    case EFBIG:
      return "; larger than `ulimit -f` or the file system allows";
    case ENOMEM:
      return "; see `ulimit -v` and the sysctl vm.max_map_count";
    default:
      return "";
  }
}

FileDescriptor open_file(const std::string& path, int flags) {
  constexpr mode_t kReadableByAll = 0644;
  const int descriptor =
      retry([&] { return ::open(path.c_str(), flags | O_CLOEXEC, kReadableByAll); });
  if (descriptor < 0) throw_storage_error(fmt::format("open {}", path), path, errno);
  return FileDescriptor(descriptor);
}

const char* name_of(std::filesystem::file_type type) {
  switch (type) {
    case std::filesystem::file_type::directory:
      return "folder";
    case std::filesystem::file_type::fifo:
      return "pipe";
    case std::filesystem::file_type::socket:
      return "socket";
    case std::filesystem::file_type::symlink:
      return "symbolic link";
    default:
      return "device";
  }
}

struct stat status_of(const FileDescriptor& file, const std::string& path) {
  struct stat status {};
  if (::fstat(file.get(), &status) != 0)
    throw_storage_error(fmt::format("stat {}", path), path, errno);
  return status;
}

// Calls `read_some(out, offset)` until `out` is full or the file ends.
template <typename ReadSome>
size_t read_fully(const std::string& path, std::span<std::byte> out, uint64_t offset,
                  ReadSome read_some) {
  size_t total = 0;
  while (total < out.size()) {
    const auto part = out.subspan(total, std::min(out.size() - total, kMaxCallBytes));
    const ssize_t count = retry([&] { return read_some(part, offset + total); });
    if (count < 0)
      throw_storage_error(fmt::format("read {} at offset {}", path, offset + total), path, errno);
    if (count == 0) break;
    total += static_cast<size_t>(count);
  }
  return total;
}

}  // namespace

const char* name_of(FileStep step) {
  static constexpr const char* kNames[] = {"create folder", "open",         "write", "fsync",
                                           "rename to",     "fsync folder", "remove"};
  return kNames[static_cast<size_t>(step)];
}

void throw_storage_error(std::string_view action, const std::string& path, int error,
                         uint64_t needed_bytes) {
  throw StorageError(fmt::format("{}: {}{}", action, std::generic_category().message(error),
                                 advice(path, error, needed_bytes)));
}

uint64_t free_bytes(const std::string& path) {
  struct statvfs info {};
  if (::statvfs(path.c_str(), &info) != 0)
    throw_storage_error(fmt::format("ask for the free space of {}", path), path, errno);
  return uint64_t{info.f_bavail} * info.f_frsize;
}

void require_regular_or_absent(const std::string& path) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (std::filesystem::is_regular_file(status) || !std::filesystem::exists(status)) return;
  throw StorageError(fmt::format("{} is a {}, expected a regular file or none; move it away", path,
                                 name_of(status.type())));
}

FileDescriptor::FileDescriptor(FileDescriptor&& other) noexcept : descriptor_(other.release()) {}

FileDescriptor& FileDescriptor::operator=(FileDescriptor&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

FileDescriptor::~FileDescriptor() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

int FileDescriptor::release() { return std::exchange(descriptor_, -1); }

InputFile::InputFile(std::string path)
    : path_(std::move(path)), file_(open_file(path_, O_RDONLY)) {}

uint64_t InputFile::size() const { return static_cast<uint64_t>(status_of(file_, path_).st_size); }

size_t InputFile::read(std::span<std::byte> out) {
  const size_t count = read_fully(path_, out, offset_, [this](std::span<std::byte> part, uint64_t) {
    return ::read(file_.get(), part.data(), part.size());
  });
  offset_ += count;
  return count;
}

size_t InputFile::read_at(std::span<std::byte> out, uint64_t offset) const {
  return read_fully(path_, out, offset, [this](std::span<std::byte> part, uint64_t at) {
    return ::pread(file_.get(), part.data(), part.size(), static_cast<off_t>(at));
  });
}

OutputFile::OutputFile(std::string path, Mode mode, FileStepHook before_step)
    : path_(std::move(path)), before_step_(std::move(before_step)), file_(-1) {
  if (before_step_) before_step_(FileStep::kOpen, path_);
  file_ = open_file(path_, O_WRONLY | O_CREAT | (mode == Mode::kReplace ? O_TRUNC : O_APPEND));
  size_ = static_cast<uint64_t>(status_of(file_, path_).st_size);
}

void OutputFile::write(std::span<const std::byte> bytes) {
  if (before_step_) before_step_(FileStep::kWrite, path_);
  while (!bytes.empty()) {
    const size_t asked = std::min(bytes.size(), kMaxCallBytes);
    const ssize_t count = retry([&] { return ::write(file_.get(), bytes.data(), asked); });
    if (count < 0)
      throw_storage_error(fmt::format("write {} at offset {}", path_, size_), path_, errno,
                          bytes.size());
    size_ += static_cast<uint64_t>(count);
    bytes = bytes.subspan(static_cast<size_t>(count));
  }
}

void OutputFile::sync() {
  if (before_step_) before_step_(FileStep::kSync, path_);
  if (retry([&] { return ::fsync(file_.get()); }) != 0)
    throw_storage_error(fmt::format("fsync {}", path_), path_, errno, size_);
}

void OutputFile::truncate(uint64_t size) {
  if (retry([&] { return ::ftruncate(file_.get(), static_cast<off_t>(size)); }) != 0 ||
      ::lseek(file_.get(), static_cast<off_t>(size), SEEK_SET) < 0) {
    throw_storage_error(fmt::format("truncate {} to {} bytes", path_, size), path_, errno);
  }
  size_ = size;
}

void OutputFile::close() {
  // Not retried: on Linux the descriptor is gone even after EINTR.
  if (::close(file_.release()) != 0 && errno != EINTR)
    throw_storage_error(fmt::format("close {}", path_), path_, errno, size_);
}

MappedFile::MappedFile(std::string path, Access access) : path_(std::move(path)) {
  // A mapping outlives its descriptor. O_NONBLOCK: a pipe is refused below, not waited for.
  const FileDescriptor file = open_file(path_, O_RDONLY | O_NONBLOCK);
  const struct stat status = status_of(file, path_);
  if (!S_ISREG(status.st_mode))
    throw StorageError(fmt::format("map {}: not a regular file", path_));
  const auto size = static_cast<size_t>(status.st_size);
  if (size == 0) return;  // mmap refuses an empty range
  void* address = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, file.get(), 0);
  if (address == MAP_FAILED)
    throw_storage_error(fmt::format("map {} ({} bytes)", path_, size), path_, errno);
  mapping_ = {static_cast<const std::byte*>(address), Unmap{size}};
  if (access != Access::kNormal) {  // advice only: a refusal costs speed, nothing else
    ::madvise(address, size, MADV_SEQUENTIAL);
  }
}

void MappedFile::forget(std::span<const std::byte> part) const {
  if (part.empty()) return;
  const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  const size_t begin = static_cast<size_t>(part.data() - mapping_.get()) / page * page;
  const size_t end = static_cast<size_t>(part.data() - mapping_.get()) + part.size();
  // Advice: a refusal costs memory, nothing else.
  ::madvise(const_cast<std::byte*>(mapping_.get()) + begin, end - begin, MADV_DONTNEED);
}

void MappedFile::Unmap::operator()(const std::byte* address) const {
  ::munmap(const_cast<std::byte*>(address), size);
}

}  // namespace switchyard
