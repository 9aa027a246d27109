#include "core/io/file_system.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <random>
#include <ranges>
#include <system_error>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "core/base/errors.h"

namespace switchyard {
namespace {

std::string parent_of(const std::string& path) {
  const auto parent = std::filesystem::path(path).parent_path();
  return parent.empty() ? "." : parent.string();
}

// In the same folder, so that the rename stays on one file system; unlike any other process's.
std::string temporary_name(const std::string& path) {
  return fmt::format("{}.tmp-{}-{:08x}", path, ::getpid(), std::random_device{}());
}

}  // namespace

FileSystem::FileSystem(FileStepHook before_step) : before_step_(std::move(before_step)) {}

void FileSystem::announce(FileStep step, const std::string& path) const {
  if (before_step_) before_step_(step, path);
}

void FileSystem::create_directory(const std::string& path) const {
  announce(FileStep::kCreateDirectory, path);
  std::error_code error;
  std::vector<std::string> parents;  // of the folders that are about to be new, innermost first
  for (std::string folder = path; !std::filesystem::exists(folder, error) && !error;
       folder = parents.back()) {
    parents.push_back(parent_of(folder));
  }
  if (!error) std::filesystem::create_directories(path, error);
  if (error) throw_storage_error(fmt::format("create folder {}", path), path, error.value());
  for (const std::string& parent : parents | std::views::reverse) sync_directory(parent);
}

OutputFile FileSystem::create_file(const std::string& path) const {
  return OutputFile(path, OutputFile::Mode::kReplace, before_step_);
}

void FileSystem::rename(const std::string& from, const std::string& to) const {
  announce(FileStep::kRename, to);
  if (::rename(from.c_str(), to.c_str()) != 0)
    throw_storage_error(fmt::format("rename {} to {}", from, to), from, errno);
}

void FileSystem::sync_directory(const std::string& path) const {
  announce(FileStep::kSyncDirectory, path);
  const FileDescriptor directory(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  // EINVAL: some network file systems cannot sync a folder and need not.
  if (directory.get() < 0 || (::fsync(directory.get()) != 0 && errno != EINVAL))
    throw_storage_error(fmt::format("fsync folder {}", path), path, errno);
}

void FileSystem::remove_all(const std::string& path) const {
  announce(FileStep::kRemove, path);
  std::error_code error;
  std::filesystem::remove_all(path, error);
  if (error) throw_storage_error(fmt::format("remove {}", path), path, error.value());
}

void write_file_atomically(const FileSystem& files, const std::string& path,
                           std::span<const std::byte> bytes) {
  const std::string temporary = temporary_name(path);
  try {
    OutputFile file = files.create_file(temporary);
    file.write(bytes);
    file.sync();
    file.close();
    files.rename(temporary, path);
  } catch (...) {
    try {
      files.remove_all(temporary);
    } catch (const std::exception&) {  // the first failure is the one to report
    }
    throw;
  }
  files.sync_directory(parent_of(path));
}

std::string read_text_file(const std::string& path, uint64_t max_bytes) {
  constexpr size_t kPieceBytes = 64 * 1024;
  InputFile file(path);
  std::string text;
  for (bool at_end = false; !at_end;) {  // not by size(): it is 0 for pipes and /proc
    const size_t before = text.size();
    text.resize(before + kPieceBytes);
    const size_t count = file.read(std::as_writable_bytes(std::span(text).subspan(before)));
    text.resize(before + count);
    at_end = count < kPieceBytes;
    if (text.size() > max_bytes)
      throw StorageError(fmt::format("read {}: the file is larger than the {} bytes expected here",
                                     path, max_bytes));
  }
  return text;
}

}  // namespace switchyard
