#include <algorithm>
#include <filesystem>
#include <map>
#include <sstream>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/base/errors.h"
#include "core/base/foreign_text.h"
#include "core/base/log.h"
#include "core/config/defaults.h"
#include "core/config/layers.h"
#include "core/config/text_reader.h"
#include "core/config/validate.h"
#include "core/tensor/aten.h"
#include "parallel/agreement.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/checkpoint/folder.h"
#include "trainer/checkpoint/manifest.h"
#include "trainer/checkpoint/problems.h"
#include "trainer/checkpoint/step_source.h"
#include "trainer/checkpoint/tensors.h"

namespace switchyard::trainer {
namespace {

// Tensors of a run of one kind: weights, or state of the optimizer.
struct Expected {
  std::vector<StoredTensor> tensors;
  bool of_optimizer;
  const ParameterTable& table;

  // Whether another stage expects it. State is called by its kind, a slash and the parameter.
  bool is_elsewhere(std::string_view name) const {
    return table.is_elsewhere(of_optimizer ? name.substr(name.find('/') + 1) : name);
  }
};

// Holds the names and shapes of `expected` against the source's tensors of the same kind. Weights
// of another type are converted; optimizer state must have the same.
void check_names(const Expected& expected, const TensorSource& source, Problems& problems) {
  std::map<std::string_view, const StoredTensor*> by_name;
  for (const auto& tensor : expected.tensors) by_name.emplace(tensor.name, &tensor);
  for (const std::string& name : source.names()) {
    if (is_optimizer_state(name) != expected.of_optimizer || expected.is_elsewhere(name)) continue;
    const TensorSource::Description is = source.describe(name);
    const auto found = by_name.find(name);
    if (found == by_name.end()) {
      problems.add("unexpected tensor {} {}: the model has none of this name", in_quotes(name),
                   text_of(is));
      continue;
    }
    const StoredTensor& tensor = *found->second;
    by_name.erase(found);
    const bool fits =
        expected.of_optimizer ? is.dtype == tensor.dtype : can_convert(is.dtype, tensor.dtype);
    if (!fits || is.shape != tensor.shape)
      problems.add("tensor {} is {}, the model needs {}", in_quotes(name), text_of(is),
                   text_of({tensor.dtype, tensor.shape}));
  }
  for (const auto& [name, tensor] : by_name)
    problems.add("missing tensor {} {}", in_quotes(name), text_of({tensor->dtype, tensor->shape}));
}

// A stretch at a time, as a comparison takes more memory than what it compares.
int64_t count_not_finite(const at::Tensor& contiguous) {
  constexpr int64_t kStretch = 1 << 18;
  int64_t finite = 0;
  for (const at::Tensor& stretch : contiguous.view(-1).split(kStretch))
    finite += at::isfinite(stretch).sum().item<int64_t>();
  return contiguous.numel() - finite;
}

// Reads this rank's boxes of the tensor. Returns how many values are NaN or infinite.
int64_t fill(const StoredTensor& tensor, TensorSource& source) {
  int64_t not_finite = 0;
  for (const StoredBox& held : tensor.boxes) {
    const at::Tensor contiguous = held.memory.contiguous();
    source.read(tensor.name, held.box, tensor.dtype, bytes_of(contiguous));
    if (!contiguous.is_same(held.memory)) held.memory.copy_(contiguous);
    not_finite += count_not_finite(contiguous);
  }
  return not_finite;
}

// Copies this rank's part of tensors from a step.
class Filling {
 public:
  Filling(const std::string& path, const Inventory& inventory)
      : path_(path), source_(path, inventory), problems_(path) {}

  // Throws CheckpointError unless the step has these tensors and no others of their kind.
  void check(const Expected& expected) {
    check_names(expected, source_, problems_);
    problems_.throw_if_any();
  }
  void fill(const StoredTensor& tensor) {
    try {
      if (const int64_t count = trainer::fill(tensor, source_); count > 0)
        warn("{}: tensor {} holds {} values that are NaN or infinite", path_, tensor.name, count);
    } catch (const CheckpointError& error) {
      problems_.add("{}", error.what());
    }
  }
  // Throws CheckpointError that lists what could not be filled.
  void finish() { problems_.throw_if_any(); }

 private:
  std::string path_;
  StepSource source_;
  Problems problems_;
};

// A field that the program that saved the step did not know yet gets its default.
config::RunConfig parse_config(const std::string& path, const std::string& text) {
  config::RunConfig config;
  auto problems = config::read_text({text, path + "/" + kConfigFile, ""}, config).problems;
  config::apply_defaults(config);
  if (problems.empty()) problems = config::problems(config, /*num_ranks=*/0);
  if (!problems.empty())
    throw CheckpointError(fmt::format("{}/{} is not a valid config:\n  {}", path, kConfigFile,
                                      fmt::join(problems, "\n  ")));
  return config;
}

// LATEST is only a hint, but a wrong one is worth knowing.
void check_latest(const std::string& folder, const std::vector<StepFolder>& steps) {
  const std::string path = folder + "/" + kLatestFile;
  std::error_code ignored;
  if (steps.empty() || !std::filesystem::exists(path, ignored)) return;
  try {
    require_regular_or_absent(path);
    constexpr uint64_t kMaxBytes = 256;
    std::string name = read_text_file(path, kMaxBytes);
    if (name.ends_with('\n')) name.pop_back();
    if (std::ranges::find(steps, folder + "/" + name, &StepFolder::path) == steps.end())
      warn("{} names {}, which is not a committed step; going by the folders", path,
           in_quotes(name));
  } catch (const StorageError& error) {
    warn("{}; going by the folders", error.what());
  }
}

// **Collective.** The paths of committed steps as rank 0 sees them, newest first.
std::vector<std::string> candidates(const std::string& folder, parallel::Communicator& world) {
  std::istringstream lines(parallel::agree(world, "list checkpoints", [&] {
    std::string list;
    if (world.rank() != 0) return list;
    const auto steps = committed_steps(folder);
    check_latest(folder, steps);
    for (const auto& step : steps) list += step.path + '\n';
    return list;
  })[0]);
  std::vector<std::string> paths;
  for (std::string path; std::getline(lines, path);) paths.push_back(path);
  return paths;
}

// Holds the state against the config: each router has a number for each of its experts.
void check_activity(const std::string& path, const TrainingState& state,
                    const config::Model& model) {
  const int experts = model.moe().num_experts(), routers = config::num_routers(model);
  const bool fits = std::ssize(state.last_active) == routers &&
                    std::ranges::all_of(state.last_active, [&](const auto& router) {
                      return std::ssize(router) == experts;
                    });
  if (!fits)
    throw CheckpointError(
        fmt::format("{}/{}: state.last_active: expected a list for each of {} router(s) with a "
                    "number for each of {} experts, as the config says",
                    path, kManifestFile, routers, experts));
}

// **Collective.** An OtherVersionError or another CheckpointError comes to all ranks alike.
CheckpointReader open_and_verify(const std::string& path, parallel::Communicator& world) {
  std::optional<CheckpointReader> reader;
  const auto refusals = parallel::agree(world, "check checkpoint", [&]() -> std::string {
    try {
      reader.emplace(path);
      reader->verify(world.rank(), world.size());
      return "";
    } catch (const OtherVersionError& error) {  // agree() would make it look like damage
      return error.what();
    }
  });
  for (const auto& refusal : refusals)
    if (!refusal.empty()) throw OtherVersionError(refusal);
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
    : path_(std::move(path)), contents_(contents) {
  SavedStep step = read_step(path_, contents == Contents::kWeights);
  config_ = parse_config(path_, step.config);
  manifest_ = std::move(step.manifest);
  check_activity(path_, state(), config_.model());
}

void CheckpointReader::load_weights(ParameterTable& table) const {
  const at::NoGradGuard no_grad;
  Filling filling(path_, manifest_.inventory);
  const std::vector<StoredTensor> weights = stored_weights(table);
  filling.check({weights, /*of_optimizer=*/false, table});
  auto next = weights.begin();
  for (ParameterGroup& group : table.groups()) {
    for (Parameter* parameter : group.parameters) {
      const at::Tensor exact = parameter->blank();
      const Stretch all = {{0, exact.numel()}, exact.view(-1)};
      StoredTensor tensor = *next++;
      tensor.boxes = boxes_of(*parameter, /*missing_dim=*/-1, {&all, 1});
      filling.fill(tensor);
      parameter->store(exact);
    }
  }
  filling.finish();
}

void CheckpointReader::load_optimizer(optim::Optimizer& optimizer,
                                      const ParameterTable& table) const {
  SY_CHECK(contents_ == Contents::kAll, "{} was opened for its weights only", path_);
  Filling filling(path_, manifest_.inventory);
  const std::vector<StoredTensor> state = stored_state(optimizer);
  filling.check({state, /*of_optimizer=*/true, table});
  for (const StoredTensor& tensor : state) filling.fill(tensor);
  filling.finish();
  optimizer.set_num_steps(manifest_.state.optimizer_steps);
}

void CheckpointReader::verify(int part, int parts) const {
  Problems problems(path_);
  StepSource source(path_, manifest_.inventory);
  int64_t number = 0;
  for (const auto& [name, record] : manifest_.inventory.tensors) {
    if (contents_ == Contents::kWeights && is_optimizer_state(name)) continue;
    for (const PieceRecord& piece : record.pieces) {
      if (number++ % parts != part) continue;
      try {
        source.verify(piece);
      } catch (const CheckpointError& error) {
        problems.add("{}", error.what());
      }
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
    } catch (const OtherVersionError&) {
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
