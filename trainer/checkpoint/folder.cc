#include "trainer/checkpoint/folder.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <optional>
#include <set>
#include <string_view>
#include <system_error>
#include <tuple>

#include <fmt/format.h>

#include "core/io/bytes.h"
#include "core/io/checksum.h"
#include "trainer/checkpoint/problems.h"

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

// The type of what is at `path`, not_found included. Any other answer of the system is an error: a
// folder that cannot be read just now must not look like one without checkpoints.
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
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error))
    names.push_back(it->path().filename().string());
  if (error) throw StorageError(fmt::format("list folder {}: {}", folder, error.message()));
  return names;
}

// The text of one of the small files, which is as COMMIT says.
std::string read_small_file(const std::string& step, const char* name, uint64_t max_bytes,
                            const std::map<std::string, std::string>& digests) {
  const auto listed = digests.find(name);
  if (listed == digests.end())
    throw CheckpointError(fmt::format("{}/{}: {} is not listed", step, kCommitFile, name));
  const std::string path = fmt::format("{}/{}", step, name);
  std::error_code ignored;
  if (!fs::is_regular_file(path, ignored))
    throw CheckpointError(fmt::format("{}: no such file", path));
  const std::string text = read_text_file(path, max_bytes);
  if (const std::string actual = sha256_hex(as_byte_span(text)); actual != listed->second)
    throw CheckpointError(fmt::format("{}: damaged: {} lists SHA-256 {}, the file has {}", path,
                                      kCommitFile, listed->second, actual));
  return text;
}

// The files that a reader of weights needs.
std::set<std::string> files_of_weights(const Inventory& inventory) {
  std::set<std::string> names = {kConfigFile};
  for (const auto& [name, tensor] : inventory.tensors)
    if (!is_optimizer_state(name))
      for (const PieceRecord& piece : tensor.pieces) names.insert(piece.file);
  return names;
}

// The files must be there at their sizes, and COMMIT must list them and the manifest, no more and
// no less. Of one that is missing nothing else is said, since COMMIT may have lost it with the
// file.
void check_files(const std::string& step, const Inventory& inventory, bool weights_only,
                 Problems& problems) {
  const std::set<std::string> of_weights = files_of_weights(inventory);
  for (const auto& [name, bytes] : inventory.files) {
    std::error_code error;
    const bool may_be_absent = weights_only && !of_weights.contains(name);
    const uint64_t actual = may_be_absent ? bytes : fs::file_size(step + "/" + name, error);
    if (error) {
      problems.add("{}: {}", name, error.message());
      continue;
    }
    if (actual != bytes)
      problems.add(
          "{} has {} bytes, expected {}; was it cut off or exchanged for another checkpoint's?",
          name, actual, bytes);
    if (!inventory.digests.contains(name)) problems.add("{} is not in COMMIT", name);
  }
  for (const auto& [name, digest] : inventory.digests)
    if (name != kManifestFile && !inventory.files.contains(name))
      problems.add("{} is in COMMIT, but not in the manifest", name);
}

void check_name(const std::string& path, int64_t step, Problems& problems) {
  const auto named = parse_step_name(fs::path(path).filename().string());
  if (named && named->step != step)
    problems.add("the folder's name says step {}, its manifest step {}", named->step, step);
}

bool is_intact(const std::string& path) {
  try {
    (void)read_step(path, /*weights_only=*/false);
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

SavedStep read_step(const std::string& path, bool weights_only) {
  const std::string commit = path + "/" + kCommitFile;
  std::error_code ignored;
  if (!fs::is_regular_file(commit, ignored))
    throw CheckpointError(
        fs::exists(path, ignored)
            ? fmt::format("{}: not a committed checkpoint: it holds no file {}", path, kCommitFile)
            : fmt::format("{}: there is no checkpoint: no such folder", path));
  auto digests = parse_commit(read_text_file(commit, kMaxManifestBytes), commit);
  SavedStep step{parse_manifest(read_small_file(path, kManifestFile, kMaxManifestBytes, digests),
                                path + "/" + kManifestFile),
                 {}};
  Inventory& inventory = step.manifest.inventory;
  inventory.digests = std::move(digests);
  Problems problems(path);
  check_name(path, step.manifest.state.step, problems);
  check_files(path, inventory, weights_only, problems);
  problems.throw_if_any();
  step.config = read_small_file(path, kConfigFile, kMaxConfigBytes, inventory.digests);
  return step;
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
