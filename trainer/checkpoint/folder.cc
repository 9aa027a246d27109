#include "trainer/checkpoint/folder.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <optional>
#include <string_view>
#include <system_error>
#include <tuple>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/base/log.h"
#include "core/io/bytes.h"
#include "core/io/checksum.h"
#include "core/io/json.h"

namespace switchyard::trainer {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kStepPrefix = "step_";
constexpr std::string_view kReplaced = ".replaced-";
constexpr std::string_view kAbandoned = ".abandoned-";
constexpr std::string_view kTemporary = ".tmp-";
constexpr uint64_t kMaxManifestBytes = uint64_t{512} << 20;
constexpr uint64_t kMaxConfigBytes = uint64_t{16} << 20;

// "step_12" or "step_12.replaced-..."; the path is left empty.
std::optional<StepFolder> parse_step_name(std::string_view name) {
  if (!name.starts_with(kStepPrefix)) return std::nullopt;
  name.remove_prefix(kStepPrefix.size());
  StepFolder step;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), step.step);
  const auto digits = static_cast<size_t>(end - name.data());
  if (error != std::errc() || step.step < 0 || (name[0] == '0' && digits > 1)) return std::nullopt;
  name.remove_prefix(digits);
  step.is_replaced = name.starts_with(kReplaced);
  if (!step.is_replaced && !name.empty()) return std::nullopt;
  return step;
}

// What is there. Any answer of the system but that and "nothing" is an error: a folder that cannot
// be read just now must not look like one without checkpoints.
fs::file_type type_of(const std::string& path) {
  std::error_code error;
  const fs::file_type type = fs::status(path, error).type();
  if (error && type != fs::file_type::not_found)
    throw StorageError(fmt::format("look at {}: {}", path, error.message()));
  return type;
}

std::vector<std::string> names_in(const std::string& folder) {
  std::vector<std::string> names;
  if (type_of(folder) == fs::file_type::not_found) return names;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    names.push_back(it->path().filename().string());
  }
  if (error) throw StorageError(fmt::format("list folder {}: {}", folder, error.message()));
  return names;
}

std::string sha256_of(std::string_view text) {
  Sha256 hash;
  hash.update(as_byte_span(text));
  return to_hex(hash.finish());
}

std::string read_if_there(const std::string& path, uint64_t max_bytes) {
  std::error_code ignored;
  if (!fs::is_regular_file(path, ignored)) {
    throw CheckpointError(fmt::format("{}: no such file", path));
  }
  return read_text_file(path, max_bytes);
}

void expect_digest(const std::string& path, const std::string& expected, std::string_view text) {
  if (const std::string actual = sha256_of(text); actual != expected) {
    throw CheckpointError(fmt::format("{}: damaged: {} lists SHA-256 {}, the file has {}", path,
                                      kCommitFile, expected, actual));
  }
}

std::vector<std::string> names_of(const std::map<std::string, uint64_t>& files) {
  std::vector<std::string> names;
  for (const auto& [name, bytes] : files) names.push_back(name);
  return names;
}

// COMMIT must list the manifest's files and the manifest, no more and no less.
void check_lists_agree(const std::map<std::string, std::string>& digests,
                       const Inventory& inventory, std::vector<std::string>& problems) {
  for (const auto& name : names_of(inventory.files)) {
    if (!digests.contains(name)) problems.push_back(fmt::format("{} is not in COMMIT", name));
  }
  for (const auto& [name, digest] : digests) {
    if (name != kManifestFile && !inventory.files.contains(name)) {
      problems.push_back(fmt::format("{} is in COMMIT, but not in the manifest", name));
    }
  }
}

// The files of weights, or of everything; the config is always among them.
std::vector<std::string> needed_files(const Inventory& inventory, bool weights_only) {
  if (!weights_only) return names_of(inventory.files);
  std::vector<std::string> names = {kConfigFile};
  for (const auto& [name, tensor] : inventory.tensors) {
    if (is_optimizer_state(name)) continue;
    for (const PieceRecord& piece : tensor.pieces) names.push_back(piece.file);
  }
  std::ranges::sort(names);
  names.erase(std::unique(names.begin(), names.end()), names.end());
  return names;
}

void check_sizes(const std::string& path, const Inventory& inventory, bool weights_only,
                 std::vector<std::string>& problems) {
  for (const auto& name : needed_files(inventory, weights_only)) {
    std::error_code error;
    const uint64_t actual = fs::file_size(path + "/" + name, error);
    const uint64_t expected = inventory.files.at(name);
    if (error) {
      problems.push_back(fmt::format("{}: {}", name, error.message()));
    } else if (actual != expected) {
      problems.push_back(
          fmt::format("{} has {} bytes, expected {}; was it cut off or exchanged for another "
                      "checkpoint's?",
                      name, actual, expected));
    }
  }
}

void check_step(const std::string& path, const Manifest& manifest,
                std::vector<std::string>& problems) {
  const auto named = parse_step_name(fs::path(path).filename().string());
  if (named && named->step != manifest.state.step) {
    problems.push_back(fmt::format("the folder's name says step {}, its manifest step {}",
                                   named->step, manifest.state.step));
  }
}

bool is_intact(const std::string& path) {
  try {
    read_manifest(path, /*weights_only=*/false);
    return true;
  } catch (const Error&) {
    return false;
  }
}

// A folder goes in one step: first it loses its name, so that a crash in between leaves nothing
// that looks like a checkpoint.
void remove_step(const FileSystem& files, const std::string& path) {
  const std::string condemned = fmt::format("{}{}removed", path, kTemporary);
  files.remove_all(condemned);
  files.rename(path, condemned);
  files.remove_all(condemned);
}

}  // namespace

std::string step_path(const std::string& folder, int64_t step) {
  return fmt::format("{}/{}{}", folder, kStepPrefix, step);
}

std::vector<StepFolder> committed_steps(const std::string& folder) {
  std::vector<StepFolder> steps;
  for (const auto& name : names_in(folder)) {
    auto step = parse_step_name(name);
    if (!step) continue;
    step->path = folder + "/" + name;
    if (type_of(step->path + "/" + kCommitFile) == fs::file_type::regular) steps.push_back(*step);
  }
  std::ranges::sort(steps, [](const StepFolder& a, const StepFolder& b) {
    return std::tuple(-a.step, a.is_replaced, a.path) < std::tuple(-b.step, b.is_replaced, b.path);
  });
  return steps;
}

std::string read_config_text(const std::string& path) {
  return read_if_there(path + "/" + kConfigFile, kMaxConfigBytes);
}

Manifest read_manifest(const std::string& path, bool weights_only) {
  std::error_code ignored;
  if (!fs::is_regular_file(path + "/" + kCommitFile, ignored)) {
    throw CheckpointError(
        fmt::format("{}: not a committed checkpoint: it holds no file {}", path, kCommitFile));
  }
  const std::string commit_path = path + "/" + kCommitFile;
  const auto digests = parse_commit(read_if_there(commit_path, kMaxManifestBytes), commit_path);
  const auto listed = digests.find(kManifestFile);
  if (listed == digests.end()) {
    throw CheckpointError(fmt::format("{}: {} is not listed", commit_path, kManifestFile));
  }
  const std::string manifest_path = path + "/" + kManifestFile;
  const std::string text = read_if_there(manifest_path, kMaxManifestBytes);
  expect_digest(manifest_path, listed->second, text);
  Manifest manifest = parse_manifest(text, manifest_path);
  manifest.inventory.digests = digests;

  std::vector<std::string> problems;
  check_step(path, manifest, problems);
  check_lists_agree(digests, manifest.inventory, problems);
  check_sizes(path, manifest.inventory, weights_only, problems);
  if (!problems.empty()) {
    throw CheckpointError(fmt::format("{}: {}", path, fmt::join(problems, "\n  ")));
  }
  expect_digest(path + "/" + kConfigFile, digests.at(kConfigFile), read_config_text(path));
  return manifest;
}

void write_latest(const FileSystem& files, const std::string& folder, int64_t step) {
  write_file_atomically(files, folder + "/" + kLatestFile,
                        as_byte_span(fmt::format("{}{}\n", kStepPrefix, step)));
}

void remove_old_steps(const FileSystem& files, const std::string& folder, int64_t saved, int keep) {
  int kept = 0;
  for (const StepFolder& step : committed_steps(folder)) {
    if (step.step > saved) continue;
    if (step.step == saved && !step.is_replaced) {
      ++kept;
    } else if (step.step == saved || kept >= keep) {
      remove_step(files, step.path);
    } else if (is_intact(step.path)) {
      ++kept;
    }
  }
}

std::vector<std::string> abandon_later_steps(const FileSystem& files, const std::string& folder,
                                             int64_t step) {
  std::vector<std::string> abandoned;
  for (const StepFolder& later : committed_steps(folder)) {
    if (later.step <= step) continue;
    int number = 1;
    const auto name = [&] { return fmt::format("{}{}{}", later.path, kAbandoned, number); };
    while (type_of(name()) != fs::file_type::not_found) ++number;
    files.rename(later.path, name());
    abandoned.push_back(fs::path(name()).filename().string());
  }
  if (!abandoned.empty()) files.sync_directory(folder);
  return abandoned;
}

void remove_leftovers(const FileSystem& files, const std::string& folder) {
  for (const auto& name : names_in(folder)) {
    const size_t suffix = name.find(kTemporary);
    if (suffix == std::string::npos) continue;
    const std::string stem = name.substr(0, suffix);
    if (stem == kLatestFile || parse_step_name(stem)) files.remove_all(folder + "/" + name);
  }
}

}  // namespace switchyard::trainer
