#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <map>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/base/errors.h"
#include "core/base/log.h"
#include "core/config/defaults.h"
#include "core/config/text_reader.h"
#include "core/config/unused_fields.h"
#include "core/config/validate.h"
#include "core/io/checksum.h"
#include "core/io/json.h"
#include "core/io/safetensors.h"
#include "core/tensor/aten.h"
#include "trainer/agreement.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/checkpoint/folder.h"
#include "trainer/checkpoint/manifest.h"
#include "trainer/checkpoint/tensors.h"

namespace switchyard::trainer {
namespace {

// Gathers what is wrong, to say it all at once.
class Problems {
 public:
  explicit Problems(std::string where) : where_(std::move(where)) {}

  void add(std::string problem) {
    if (std::ranges::find(problems_, problem) == problems_.end() && ++count_ <= kMostShown) {
      problems_.push_back(std::move(problem));
    }
  }

  void throw_if_any() const {
    if (problems_.empty()) return;
    const size_t hidden = count_ - problems_.size();
    throw CheckpointError(fmt::format("{}:\n  {}{}", where_, fmt::join(problems_, "\n  "),
                                      hidden ? fmt::format("\n  and {} more", hidden) : ""));
  }

 private:
  static constexpr size_t kMostShown = 100;
  std::string where_;
  std::vector<std::string> problems_;
  size_t count_ = 0;
};

std::string describe(DType dtype, const std::vector<int64_t>& shape) {
  return fmt::format("{} [{}]", name_of(dtype), fmt::join(shape, ", "));
}

// The shards of one checkpoint, opened as they are needed.
class Shards {
 public:
  Shards(std::string folder, const Inventory& inventory)
      : folder_(std::move(folder)), inventory_(inventory) {}

  // The tensor's bytes, which match its checksum; valid while this object lives. Throws
  // CheckpointError.
  std::span<const std::byte> read(const std::string& name, const TensorRecord& record) {
    const SafetensorsFile& file = open(record.file);
    const auto bytes = file.bytes(*file.find(name));
    if (const uint32_t actual = crc32c(bytes); actual != record.crc32c) {
      throw CheckpointError(
          fmt::format("tensor {} is damaged: expected CRC-32C {:08x}, its bytes in {} have {:08x}",
                      json_quoted(name), record.crc32c, record.file, actual));
    }
    return bytes;
  }

 private:
  const SafetensorsFile& open(const std::string& name) {
    if (const auto found = open_.find(name); found != open_.end()) return found->second;
    if (const auto found = refused_.find(name); found != refused_.end())
      throw CheckpointError(found->second);
    try {
      SafetensorsFile file(folder_ + "/" + name);
      check(name, file);
      return open_.emplace(name, std::move(file)).first->second;
    } catch (const CheckpointError& error) {
      refused_.emplace(name, error.what());
      throw;
    }
  }

  // The file must hold the tensors that the manifest places there, and no others.
  void check(const std::string& name, const SafetensorsFile& file) const {
    Problems problems(name);
    for (const auto& entry : file.entries()) {
      const auto found = inventory_.tensors.find(entry.name);
      if (found == inventory_.tensors.end() || found->second.file != name) {
        problems.add(fmt::format("holds tensor {}, which the manifest does not place there",
                                 json_quoted(entry.name)));
      }
    }
    for (const auto& [tensor, record] : inventory_.tensors) {
      if (record.file != name) continue;
      const SafetensorsEntry* entry = file.find(tensor);
      if (!entry) {
        problems.add(fmt::format("lacks tensor {}", json_quoted(tensor)));
      } else if (entry->dtype != record.dtype || entry->shape != record.shape) {
        problems.add(fmt::format("tensor {} is {}, the manifest says {}", json_quoted(tensor),
                                 describe(entry->dtype, entry->shape),
                                 describe(record.dtype, record.shape)));
      }
    }
    problems.throw_if_any();
  }

  std::string folder_;
  const Inventory& inventory_;
  std::map<std::string, SafetensorsFile> open_;
  std::map<std::string, std::string> refused_;  // with the reason: not parsed once per tensor
};

// Holds the names, types and shapes of `expected` against the manifest's tensors of the same kind
// (weights or optimizer state).
void check_names(const std::vector<StoredTensor>& expected, bool of_optimizer,
                 const Inventory& inventory, Problems& problems) {
  std::map<std::string_view, const StoredTensor*> by_name;
  for (const auto& tensor : expected) by_name.emplace(tensor.name, &tensor);
  for (const auto& [name, record] : inventory.tensors) {
    if (is_optimizer_state(name) != of_optimizer) continue;
    const auto found = by_name.find(name);
    if (found == by_name.end()) {
      problems.add(fmt::format("unexpected tensor {} {}: the model has none of this name",
                               json_quoted(name), describe(record.dtype, record.shape)));
      continue;
    }
    const StoredTensor& tensor = *found->second;
    by_name.erase(found);
    if (record.dtype != tensor.dtype || record.shape != tensor.shape) {
      problems.add(fmt::format("tensor {} is {}, the model needs {}", json_quoted(name),
                               describe(record.dtype, record.shape),
                               describe(tensor.dtype, tensor.shape)));
    }
  }
  for (const auto& [name, tensor] : by_name) {
    problems.add(fmt::format("missing tensor {} {}", json_quoted(name),
                             describe(tensor->dtype, tensor->shape)));
  }
}

template <typename Real>
int64_t count_not_finite(std::span<const std::byte> bytes) {
  const std::span<const Real> values(reinterpret_cast<const Real*>(bytes.data()),
                                     bytes.size() / sizeof(Real));
  return std::ranges::count_if(values, [](Real value) { return !std::isfinite(value); });
}

void warn_if_not_finite(const std::string& path, const StoredTensor& tensor) {
  const int64_t count = tensor.dtype == DType::kFloat32 ? count_not_finite<float>(tensor.bytes)
                                                        : count_not_finite<double>(tensor.bytes);
  if (count > 0) {
    warn("{}: tensor {} holds {} values that are NaN or infinite", path, tensor.name, count);
  }
}

// Copies this rank's part of `tensors` from the checkpoint.
void fill(const std::string& path, const Inventory& inventory,
          const std::vector<StoredTensor>& tensors, bool of_optimizer) {
  Problems problems(path);
  check_names(tensors, of_optimizer, inventory, problems);
  problems.throw_if_any();
  Shards shards(path, inventory);
  for (const auto& tensor : tensors) {
    if (!tensor.is_local) continue;
    try {
      const auto bytes = shards.read(tensor.name, inventory.tensors.at(tensor.name));
      if (!bytes.empty()) std::memcpy(tensor.bytes.data(), bytes.data(), bytes.size());
      warn_if_not_finite(path, tensor);
    } catch (const CheckpointError& error) {
      problems.add(error.what());
    }
  }
  problems.throw_if_any();
}

// What a program older than a field left unset is what the field's default does; what it set and
// nothing reads is left out.
config::RunConfig parse_config(const std::string& path) {
  const std::string text = read_config_text(path);
  config::RunConfig config;
  auto problems = config::read_text({text, path + "/" + kConfigFile, ""}, config).problems;
  config::drop_unused_fields(config);
  config::apply_defaults(config);
  if (problems.empty()) problems = config::problems(config, /*num_ranks=*/0);
  if (!problems.empty()) {
    throw CheckpointError(fmt::format("{}/{} is not a valid config:\n  {}", path, kConfigFile,
                                      fmt::join(problems, "\n  ")));
  }
  return config;
}

// LATEST is only a hint, but a wrong one is worth knowing.
void check_latest(const std::string& folder, const std::vector<StepFolder>& steps) {
  const std::string path = folder + "/" + kLatestFile;
  std::error_code ignored;
  if (steps.empty() || !std::filesystem::exists(path, ignored)) return;
  std::string name;
  try {
    require_regular_or_absent(path);
    constexpr uint64_t kMaxBytes = 256;
    name = read_text_file(path, kMaxBytes);
    if (name.ends_with('\n')) name.pop_back();
  } catch (const StorageError& error) {
    warn("{}; going by the folders", error.what());
    return;
  }
  const bool is_known = std::ranges::any_of(
      steps, [&](const StepFolder& step) { return step.path == folder + "/" + name; });
  if (!is_known) {
    warn("{} names {}, which is not a committed step; going by the folders", path,
         json_quoted(name));
  }
}

// The paths of committed steps as rank 0 sees them, newest first.
std::vector<std::string> candidates(const std::string& folder, parallel::Communicator& world) {
  const auto lists = agree(world, "list checkpoints", [&] {
    std::string list;
    if (world.rank() != 0) return list;
    const auto steps = committed_steps(folder);
    check_latest(folder, steps);
    for (const auto& step : steps) list += step.path + '\n';
    return list;
  });
  std::vector<std::string> paths;
  for (size_t begin = 0, end; (end = lists[0].find('\n', begin)) != std::string::npos;
       begin = end + 1) {
    paths.push_back(lists[0].substr(begin, end - begin));
  }
  return paths;
}

// **Collective.** NewerVersionError and CheckpointError are the same on all ranks.
CheckpointReader open_and_verify(const std::string& path, parallel::Communicator& world) {
  std::optional<CheckpointReader> reader;
  const auto refusals = agree(world, "check checkpoint", [&]() -> std::string {
    try {
      reader.emplace(path);
      reader->verify(world.rank(), world.size());
      return "";
    } catch (const NewerVersionError& error) {  // not a damage: it must not look like one
      return error.what();
    }
  });
  for (const auto& refusal : refusals) {
    if (!refusal.empty()) throw NewerVersionError(refusal);
  }
  return std::move(*reader);
}

}  // namespace

std::optional<std::string> latest_checkpoint(const std::string& folder) {
  const auto steps = committed_steps(folder);
  check_latest(folder, steps);
  if (steps.empty()) return std::nullopt;
  return steps.front().path;
}

CheckpointReader::CheckpointReader(std::string path, Contents contents)
    : path_(std::move(path)),
      contents_(contents),
      manifest_(
          std::make_unique<const Manifest>(read_manifest(path_, contents == Contents::kWeights))),
      config_(parse_config(path_)) {}

CheckpointReader::CheckpointReader(CheckpointReader&&) noexcept = default;
CheckpointReader& CheckpointReader::operator=(CheckpointReader&&) noexcept = default;
CheckpointReader::~CheckpointReader() = default;

const TrainingState& CheckpointReader::state() const { return manifest_->state; }

void CheckpointReader::warn_if_earlier_build() const {
  if (state().processor.empty())  // which earlier builds did not note
    warn("{} was saved by an earlier build of this program, which computed some numbers otherwise",
         path_);
}

void CheckpointReader::load_weights(ParameterTable& table) const {
  fill(path_, manifest_->inventory, stored_weights(table), /*of_optimizer=*/false);
  const at::NoGradGuard no_grad;
  for (ParameterGroup& group : table.groups()) group.refresh_value();
}

void CheckpointReader::load_optimizer(optim::Optimizer& optimizer) const {
  SY_CHECK(contents_ == Contents::kAll, "{} was opened for its weights only", path_);
  fill(path_, manifest_->inventory, stored_state(optimizer), /*of_optimizer=*/true);
  optimizer.set_num_steps(manifest_->state.optimizer_steps);
}

void CheckpointReader::verify(int part, int parts) const {
  Problems problems(path_);
  Shards shards(path_, manifest_->inventory);
  int64_t number = 0;
  for (const auto& [name, record] : manifest_->inventory.tensors) {
    if (number++ % parts != part) continue;
    if (contents_ == Contents::kWeights && is_optimizer_state(name)) continue;
    try {
      (void)shards.read(name, record);
    } catch (const CheckpointError& error) {
      problems.add(error.what());
    }
  }
  problems.throw_if_any();
}

std::optional<CheckpointReader> open_newest_valid(const std::string& folder,
                                                  parallel::Communicator& world) {
  const auto paths = candidates(folder, world);
  for (const auto& path : paths) {
    try {
      return open_and_verify(path, world);
    } catch (const NewerVersionError&) {
      throw;
    } catch (const CheckpointError& error) {
      if (world.rank() == 0) warn("passing over a damaged checkpoint: {}", error.what());
    }
  }
  if (paths.empty()) return std::nullopt;
  throw CheckpointError(
      fmt::format("{}: all {} checkpoints are damaged, see the warnings above; to begin anew, give "
                  "the run another name",
                  folder, paths.size()));
}

}  // namespace switchyard::trainer
