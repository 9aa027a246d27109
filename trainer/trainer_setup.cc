// How a run begins: opening data and folder, building the model, resuming, the banner. See
// trainer/trainer.h.

#include <ATen/Parallel.h>
#include <fmt/format.h>

#include "core/base/log.h"
#include "core/base/version.h"
#include "core/config/layers.h"
#include "core/config/print.h"
#include "core/config/schedule.h"
#include "core/config/validate.h"
#include "core/io/file_system.h"
#include "core/tensor/gemm.h"
#include "models/inspect/cost.h"
#include "models/inspect/describe.h"
#include "parallel/crash_report.h"
#include "trainer/agreement.h"
#include "trainer/products.h"
#include "trainer/start_checks.h"
#include "trainer/trainer.h"

namespace switchyard::trainer {
namespace {

std::unique_ptr<Tokenizer> open_tokenizer(const config::RunConfig& config) {
  if (!reads_text(config)) return nullptr;
  auto tokenizer = load_tokenizer(config.data().tokenizer());
  if (tokenizer->vocab_size() > config.model().vocab_size()) {
    throw ConfigError(fmt::format(
        "model.vocab_size ({}) must be at least the {} tokens of data.tokenizer \"{}\"; raise it",
        config.model().vocab_size(), tokenizer->vocab_size(), config.data().tokenizer()));
  }
  return tokenizer;
}

// The run keeps its vocabulary, so that it can be read when data.tokenizer is gone or another.
void keep_tokenizer(const config::RunConfig& config, const RunFolder& folder) {
  if (!reads_text(config) || config.data().tokenizer() == "bytes") return;
  constexpr uint64_t kLargestModel = uint64_t{1} << 30;  // bytes
  const std::string model = read_text_file(config.data().tokenizer(), kLargestModel);
  write_file_atomically(FileSystem(), folder.tokenizer(), std::as_bytes(std::span(model)));
}

// What the run is, for the banner.
std::string summary(const config::RunConfig& config) {
  const models::Census census = models::census(config.model());
  const std::string changes = models::describe_schedules(config);
  return fmt::format(
      "switchyard {}: {} parameters, {} active; {} tokens per step; {}; {} thread(s) per "
      "rank\n{}{}",
      kVersion, format_count(static_cast<double>(census.total)),
      format_count(static_cast<double>(census.active)),
      int64_t{config.train().global_batch()} * config.data().sequence_length(),
      config::ComputeType_Name(config.runtime().compute()), at::get_num_threads(),
      models::describe_losses(config),
      changes.empty() ? "" : "in the course of the run\n" + changes);
}

// When the run saves, for the banner.
std::string describe_saving(const config::Checkpoint& checkpoint) {
  std::string text = "saves: ";
  if (checkpoint.every() > 0) text += fmt::format("every {} step(s), ", checkpoint.every());
  if (checkpoint.every_minutes() > 0)
    text += fmt::format("every {} minute(s), ", checkpoint.every_minutes());
  return text + "at the end, and before it leaves on " + StopSignals::names();
}

// As the loader asks for them.
std::function<int64_t(int64_t, int64_t)> micro_batches(const config::RunConfig& config) {
  const int64_t size = config.train().global_batch() / config.train().accumulation();
  return [config, size](int64_t step, int64_t sequences) {
    const int64_t tokens = sequences * config.data().sequence_length();
    return config::global_batch_at(config, {step, tokens}) / size;
  };
}

}  // namespace

Trainer::Trainer(const config::RunConfig& config, parallel::Communicator& world,
                 const Resume& resume, FaultInjector faults)
    : config_(make_on_all(world, "open token files", [&] { return with_tokenizer(config); })),
      world_(world),
      folder_(config),
      tokenizer_(make_on_all(world, "open tokenizer", [&] { return open_tokenizer(config_); })),
      instance_(config, world),
      optimizer_(optim::make_optimizer(config.optimizer(), instance_.parameters.trained_groups(),
                                       instance_.mesh)),
      data_(make_on_all(world, "open data", [&] { return open_data(config_, tokenizer_.get()); })),
      blend_(data_.train, data_.maker->sample_tokens(), config.seed()),
      speed_(config, instance_.mesh),
      faults_(std::move(faults)) {
  open_run_folder();
  state_.data = blend_.start();
  state_.data_fingerprint = blend_.fingerprint();
  state_.tokenizer_fingerprint = tokenizer_ ? tokenizer_->fingerprint() : 0;
  state_.processor = processors_of(world);
  check_same_on_all({this_program(), config::to_text(config_), state_.data_fingerprint,
                     state_.tokenizer_fingerprint},
                    world);
  state_.last_active.resize(config::num_routers(config.model()));
  start_from(resume);
  // Before the metrics are cut: whatever happens next, folders and metrics tell of one branch.
  if (resume.kind == Resume::kPath) abandon_branch();
  const LoaderOptions options{config.train().global_batch(),
                              config.train().accumulation(),
                              instance_.mesh.data().rank(),
                              instance_.mesh.data().size(),
                              /*prefetch=*/2,
                              data_.maker,
                              state_.step,
                              micro_batches(config_),
                              config::largest_batch(config_)};
  num_tokens_ = state_.tokens + config::sequences_left(config_, {state_.step, state_.tokens}) *
                                    config_.data().sequence_length();
  loader_ = std::make_unique<BatchLoader>(blend_, options, state_.data);
  agree(world, "open metrics", [&] {
    if (world.rank() == 0) open_metrics();
    return std::string();
  });
}

// **Collective.** The folder is this job's when it returns, and every rank can write there.
void Trainer::open_run_folder() {
  agree(world_, "open run folder", [&] {
    if (world_.rank() > 0) return std::string();
    FileSystem().create_directory(folder_.checkpoints());
    lock_ = std::make_unique<RunLock>(folder_.path);
    require_regular_or_absent(folder_.log());
    start_log(0, world_.size(), folder_.log());
    return std::string();
  });
  parallel::set_crash_file(folder_.crash(world_.rank()));
  try_storage(FileSystem(), folder_.checkpoints(), world_);
}

void Trainer::open_metrics() {
  metrics_ = std::make_unique<MetricsLog>(folder_, state_.step);
  const std::string text = config::to_text(config_);
  write_file_atomically(FileSystem(), folder_.config(), std::as_bytes(std::span(text)));
  keep_tokenizer(config_, folder_);
}

void Trainer::start_from(const Resume& resume) {
  if (resume.kind == Resume::kPath) {
    restore(CheckpointReader(resume.path));
    return;
  }
  const auto newest = open_newest_valid(folder_.checkpoints(), world_);
  if (!newest) return start_anew();
  if (resume.kind == Resume::kNever) {
    throw CheckpointError(
        fmt::format("{} already holds a checkpoint of step {}, and --resume never asks for a new "
                    "run; choose another name "
                    "(--set name=...), remove the folder, or go on with --resume auto",
                    folder_.path, newest->state().step));
  }
  restore(*newest);
}

void Trainer::start_anew() {
  if (!config_.has_init_from()) return instance_.parameters.initialize(config_.seed());
  const CheckpointReader source(config_.init_from(), CheckpointReader::Contents::kWeights);
  source.load_weights(instance_.parameters);
}

void Trainer::restore(const CheckpointReader& checkpoint) {
  std::vector<std::string> refused, changed;
  for (const config::Difference& difference : config::differences(checkpoint.config(), config_))
    (difference.may_change ? changed : refused).push_back(difference.text());
  const TrainingState& saved = checkpoint.state();
  if (saved.data_fingerprint != state_.data_fingerprint &&
      saved.data_fingerprint != blend_.early_fingerprint()) {
    refused.push_back(
        "data: the training files, weights or order are not those the run began with");
  }
  if (saved.tokenizer_fingerprint != state_.tokenizer_fingerprint)
    refused.push_back("data.tokenizer: another vocabulary");
  if (!refused.empty()) {
    throw CheckpointError(fmt::format(
        "{0} cannot be resumed with this config:\n  {1}\nuse the run's own config.textproto, "
        "or start a new run from these weights: --set name=... --init-from {0}",
        checkpoint.path(), fmt::join(refused, "\n  ")));
  }
  for (const std::string& difference : changed) info("changed since the save: {}", difference);
  checkpoint.load_weights(instance_.parameters);
  checkpoint.load_optimizer(*optimizer_);
  warn_of_other_bits(checkpoint);
  const std::string processor = state_.processor;
  const uint64_t data = state_.data_fingerprint;
  state_ = saved;
  state_.processor = processor;
  state_.data_fingerprint = data;
  last_saved_ = branch_from_ = state_.step;
  // A checkpoint is written after the evaluation of its step.
  const config::RunConfig& before = checkpoint.config();
  const bool was_last = before.train().steps() == state_.step;
  if (was_last || is_due(before.eval().every())) last_evaluated_ = state_.step;
}

// The run goes on, but not as it would have gone on where it was saved.
void Trainer::warn_of_other_bits(const CheckpointReader& checkpoint) const {
  if (world_.rank() > 0) return;
  const std::string& before = checkpoint.state().processor;
  checkpoint.warn_if_earlier_build();
  if (!before.empty() && before != state_.processor)
    warn("{} was saved on another kind of processor ({}, here {}); the last bits will differ",
         checkpoint.path(), before, state_.processor);
}

void Trainer::print_banner() {
  if (!metrics_) return;
  say(summary(config_));
  for (const std::string& line : config::warnings(config_)) say("warning: " + line);
  say(describe_products(config_.runtime()));
  say(instance_.mesh.describe());
  say(describe_saving(config_.checkpoint()));
  say(fmt::format("run: {}  seed: {}  {}", folder_.path, config_.seed(),
                  state_.step > 0 ? fmt::format("resumed at step {}", state_.step)
                  : config_.has_init_from()
                      ? "from the start, with the weights of " + config_.init_from()
                      : "from the start"));
}

}  // namespace switchyard::trainer
