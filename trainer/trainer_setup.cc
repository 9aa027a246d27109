// How a run begins: opening data and folder, building the model, resuming, the banner. See
// trainer/trainer.h.

#include <ATen/Parallel.h>
#include <fmt/format.h>

#include "core/base/log.h"
#include "core/base/process.h"
#include "core/base/version.h"
#include "core/config/layers.h"
#include "core/config/print.h"
#include "core/config/schedule.h"
#include "core/config/validate.h"
#include "core/tensor/gemm.h"
#include "models/inspect/cost.h"
#include "models/inspect/describe.h"
#include "models/inspect/stages.h"
#include "parallel/agreement.h"
#include "trainer/products.h"
#include "trainer/start_checks.h"
#include "trainer/trainer.h"

namespace switchyard::trainer {
namespace {

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

}  // namespace

Trainer::Trainer(const config::RunConfig& config, parallel::Communicator& world,
                 const Resume& resume, FaultInjector faults)
    : config_(
          parallel::make_on_all(world, "open token files", [&] { return with_tokenizer(config); })),
      world_(world),
      training_(config_, open_training_data(config_, world), world),
      storage_(config, world),
      speed_(config, training_.instance.mesh),
      rank_times_(config_.log(), world),
      faults_(std::move(faults)) {
  TrainingState& state = training_.state;
  state.processor = processors_of(world);
  check_same_on_all({this_program(), config::to_text(config_), state.data_fingerprint,
                     state.tokenizer_fingerprint},
                    world);
  start_from(resume);
  // Before the metrics are cut: whatever happens next, folders and metrics tell of one branch.
  if (resume.kind == Resume::kPath) storage_.abandon_branch();
  training_.begin();
  speed_.expect(training_.tokens_left());
  parallel::do_on_all(world, "open metrics", [&] {
    if (world.rank() == 0) open_metrics();
  });
}

void Trainer::open_metrics() {
  const RunFolder& folder = storage_.folder();
  metrics_ = std::make_unique<MetricsLog>(folder, step());
  const std::string text = config::to_text(config_);
  write_file_atomically(FileSystem(), folder.config(), std::as_bytes(std::span(text)));
  keep_tokenizer(config_, folder);
}

void Trainer::start_from(const Resume& resume) {
  if (resume.kind == Resume::kPath) {
    restore(CheckpointReader(resume.path));
    return;
  }
  const auto newest = open_newest_valid(storage_.folder().checkpoints(), world_);
  if (!newest) return fill_first_weights(config_, training_.instance.parameters);
  if (resume.kind == Resume::kNever)
    throw CheckpointError(fmt::format(
        "{} already holds a checkpoint of step {}, and --resume never asks for a new run; choose "
        "another name (--set name=...), remove the folder, or go on with --resume auto",
        storage_.folder().path, newest->state().step));
  restore(*newest);
}

void Trainer::restore(const CheckpointReader& checkpoint) {
  std::vector<std::string> refused, changed;
  for (const config::Difference& difference : config::differences(checkpoint.config(), config_))
    (difference.may_change ? changed : refused).push_back(difference.text());
  const TrainingState& saved = checkpoint.state();
  TrainingState& state = training_.state;
  if (saved.data_fingerprint != state.data_fingerprint)
    refused.push_back(
        "data: the training files, weights or order are not those the run began with");
  if (saved.tokenizer_fingerprint != state.tokenizer_fingerprint)
    refused.push_back("data.tokenizer: another vocabulary");
  if (!refused.empty())
    throw CheckpointError(fmt::format(
        "{0} cannot be resumed with this config:\n  {1}\nuse the run's own config.textproto, "
        "or start a new run from these weights: --set name=... --init-from {0}",
        checkpoint.path(), fmt::join(refused, "\n  ")));
  for (const std::string& difference : changed) info("changed since the save: {}", difference);
  checkpoint.load_weights(training_.instance.parameters);
  checkpoint.load_optimizer(*training_.optimizer, training_.instance.parameters);
  warn_of_other_bits(checkpoint);
  TrainingState restored = saved;
  restored.processor = state.processor;
  state = std::move(restored);
  storage_.go_on_from(step());
  // A checkpoint is written after the evaluation of its step.
  const config::RunConfig& before = checkpoint.config();
  const bool was_last = before.train().steps() == step();
  if (was_last || is_due(before.eval().every())) last_evaluated_ = step();
}

// The run goes on, but not as it would have gone on where it was saved.
void Trainer::warn_of_other_bits(const CheckpointReader& checkpoint) const {
  if (world_.rank() > 0) return;
  const std::string& before = checkpoint.state().processor;
  if (before != training_.state.processor)
    warn("{} was saved on another kind of processor ({}, here {}); the last bits will differ",
         checkpoint.path(), before, training_.state.processor);
}

void Trainer::print_banner() {
  const std::vector<std::string> hosts = world_.all_gather_text(host_name(), "names of hosts");
  if (!metrics_) return;
  say(summary(config_));
  for (const std::string& line : config::warnings(config_)) say("warning: " + line);
  say(describe_products(config_.runtime()));
  const parallel::Mesh& mesh = training_.instance.mesh;
  say(mesh.describe(hosts));
  if (const int stages = mesh.pipeline().place().size; stages > 1)
    say(models::describe_stages(config_, stages));
  say(describe_saving(config_.checkpoint()));
  say(fmt::format("run: {}  seed: {}  {}", storage_.folder().path, config_.seed(),
                  step() > 0 ? fmt::format("resumed at step {}", step())
                  : config_.has_init_from()
                      ? "from the start, with the weights of " + config_.init_from()
                      : "from the start"));
}

}  // namespace switchyard::trainer
