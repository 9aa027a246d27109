#pragma once
// Owned file handles over POSIX calls: reads and writes go on after EINTR and short counts, and
// every failure is a StorageError with the path, the offset where there is one, and the cause.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace switchyard {

// One step of changing what is on disk.
enum class FileStep { kCreateDirectory, kOpen, kWrite, kSync, kRename, kSyncDirectory, kRemove };

// "write", "fsync", ...
const char* name_of(FileStep step);

// Called before each step; may be empty. A test or a crash drill makes the step fail by throwing
// StorageError, or "crashes" at it by _exit or by throwing at this and every later step.
using FileStepHook = std::function<void(FileStep step, const std::string& path)>;

// Throws StorageError "<action>: <cause of `error`>", with what to do about it where we know.
// `path` is any path on the file system in question; `needed_bytes` (0: unknown) is what did not
// fit.
[[noreturn]] void throw_storage_error(std::string_view action, const std::string& path, int error,
                                      uint64_t needed_bytes = 0);

// Bytes that this user may still write on the file system of `path`.
[[nodiscard]] uint64_t free_bytes(const std::string& path);

// For files that this program appends to: throws StorageError that says what `path` is unless it is
// a regular file or nothing at all. To open a pipe would wait for its reader, for ever.
void require_regular_or_absent(const std::string& path);

// Closes the descriptor when it goes.
class FileDescriptor {
 public:
  explicit FileDescriptor(int descriptor) : descriptor_(descriptor) {}
  FileDescriptor(FileDescriptor&& other) noexcept;
  FileDescriptor& operator=(FileDescriptor&& other) noexcept;
  ~FileDescriptor();

  int get() const { return descriptor_; }
  int release();

 private:
  int descriptor_;  // -1: none
};

class InputFile {
 public:
  explicit InputFile(std::string path);

  const std::string& path() const { return path_; }
  uint64_t size() const;  // now, not at the time of opening

  // Fills `out` from the current position, or from `offset`. Returns the bytes read: fewer than
  // asked only at the end of the file.
  [[nodiscard]] size_t read(std::span<std::byte> out);
  [[nodiscard]] size_t read_at(std::span<std::byte> out, uint64_t offset) const;

 private:
  std::string path_;
  FileDescriptor file_;
  uint64_t offset_ = 0;
};

class OutputFile {
 public:
  enum class Mode { kReplace, kAppend };
  OutputFile(std::string path, Mode mode, FileStepHook before_step = {});

  const std::string& path() const { return path_; }
  uint64_t size() const { return size_; }  // what is in the file, including what was there before

  void write(std::span<const std::byte> bytes);
  // On the disk, not only in the page cache, when it returns.
  void sync();
  // Cuts the file back to its first `size` bytes; further writes go behind them.
  void truncate(uint64_t size);
  // Closes and reports what a network file system only says now. Without it the destructor closes
  // and says nothing.
  void close();

 private:
  std::string path_;
  FileStepHook before_step_;
  FileDescriptor file_;
  uint64_t size_ = 0;
};

// A regular file mapped read-only. If another process truncates it meanwhile, touching the lost
// pages raises SIGBUS.
class MappedFile {
 public:
  enum class Access { kNormal, kSequential };
  explicit MappedFile(std::string path, Access access = Access::kNormal);

  const std::string& path() const { return path_; }
  std::span<const std::byte> bytes() const {
    return {mapping_.get(), mapping_ ? mapping_.get_deleter().size : 0};
  }
  // Whoever has read `part`, a part of bytes(), needs it no more: the process gives its memory
  // back. It stays readable, from the file.
  void forget(std::span<const std::byte> part) const;

 private:
  struct Unmap {
    size_t size;
    void operator()(const std::byte* address) const;
  };

  std::string path_;
  std::unique_ptr<const std::byte, Unmap> mapping_;  // null: an empty file
};

}  // namespace switchyard
