#pragma once
// The steps that a commit to disk is made of, and the atomic replacement of one file. Whoever must
// survive a crash at any point takes a FileSystem, so that a test can crash it at every point.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "core/io/file.h"

namespace switchyard {

// The real file system; each step is announced to the hook first. Plain reading needs no
// FileSystem.
class FileSystem {
 public:
  FileSystem() = default;
  explicit FileSystem(FileStepHook before_step);

  // With its parents; one that is there already is fine. New ones survive a power cut.
  void create_directory(const std::string& path) const;
  // Empty, replacing what was there; the file announces its writes and syncs too.
  OutputFile create_file(const std::string& path) const;
  // Atomic within one file system; replaces a file, never a folder that holds something.
  void rename(const std::string& from, const std::string& to) const;
  // Makes creations and renames inside the folder survive a power cut.
  void sync_directory(const std::string& path) const;
  // A file or a whole folder; one that is absent is fine.
  void remove_all(const std::string& path) const;

 private:
  void announce(FileStep step, const std::string& path) const;

  FileStepHook before_step_;
};

// After it returns, `path` holds `bytes` even after a power cut; if it throws or the process dies,
// `path` is what it was before. Uses a temporary file in the same folder.
void write_file_atomically(const FileSystem& files, const std::string& path,
                           std::span<const std::byte> bytes);

// The whole file. StorageError if it is larger than `max_bytes`.
[[nodiscard]] std::string read_text_file(const std::string& path, uint64_t max_bytes);

}  // namespace switchyard
