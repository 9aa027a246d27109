// switchyard eval and switchyard generate: a checkpoint on the ranks at hand.

#include <filesystem>
#include <fstream>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "core/base/log.h"
#include "core/config/layers.h"
#include "core/config/print.h"
#include "core/config/reader.h"
#include "scripts/commands/job.h"
#include "scripts/commands/output.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/evaluate.h"
#include "trainer/log/step_record.h"
#include "trainer/model_instance.h"

namespace switchyard::commands {
namespace {

constexpr double kTimeoutSeconds = 600;

// A trained model, ready to use.
struct Loaded {
  config::RunConfig config;
  std::unique_ptr<Tokenizer> tokenizer;  // null if the run used generated tokens
  std::unique_ptr<trainer::ModelInstance> instance;
};

// The checkpoint's config with the overrides, and without what only the ranks of the training need
// have. ConfigError, the same on all ranks, for an override that no rule allows, or with which the
// weights would be of another run.
config::RunConfig config_of(const trainer::CheckpointReader& reader,
                            const std::vector<std::string>& overrides) {
  config::RunConfig trained = reader.config();
  trained.mutable_mesh()->Clear();
  trained.mutable_runtime()->clear_float32_products();
  trained.mutable_runtime()->clear_bfloat16_products();
  if (overrides.empty()) return trained;
  const std::string file = reader.path() + "/config.textproto";
  const auto config = config::load_config_text(config::to_text(trained), file, overrides,
                                               {.num_ranks = 0, .is_resolved = true});
  for (const config::Difference& difference : config::differences(trained, config)) {
    const bool is_dropped = difference.to == "unset";  // nothing reads it any more
    if ((!difference.may_change && !is_dropped) || difference.path == "data.tokenizer")
      throw ConfigError(
          fmt::format("--set: {}, but the weights in {} are of a run with the former; leave it out",
                      difference.text(), reader.path()));
  }
  return config;
}

// The copy of its tokenizer that a run keeps: <run>/checkpoints/step_N -> <run>/tokenizer.model.
std::string kept_tokenizer(const std::string& checkpoint) {
  auto folder = std::filesystem::absolute(checkpoint).lexically_normal();
  if (!folder.has_filename()) folder = folder.parent_path();  // written with a slash at its end
  return folder.parent_path().parent_path() / "tokenizer.model";
}

// Throws unless it is the run's. A checkpoint of a run without a tokenizer has the fingerprint 0.
void check_tokenizer(const Tokenizer& tokenizer, const trainer::CheckpointReader& checkpoint) {
  const uint64_t expected = checkpoint.state().tokenizer_fingerprint;
  if (expected == 0 || expected == tokenizer.fingerprint()) return;
  throw DataError(fmt::format(
      "{}: its fingerprint is {:016x}, and {} was trained with that of {:016x}; put the "
      "run's own tokenizer in its place",
      tokenizer.name(), tokenizer.fingerprint(), checkpoint.path(), expected));
}

Loaded load(parallel::World& world, const CheckpointOptions& options) {
  const std::string folder = find_checkpoint(options.path);
  const trainer::CheckpointReader reader(folder, trainer::CheckpointReader::Contents::kWeights);
  Loaded loaded{config_of(reader, options.overrides), nullptr, nullptr};
  start_runtime(world, reader.config().runtime(), loaded.config);
  if (trainer::reads_text(loaded.config)) {
    const std::string copy = kept_tokenizer(folder);  // of what was at data.tokenizer
    const bool has_copy = std::ifstream(copy).good();
    loaded.tokenizer = load_tokenizer(has_copy ? copy : loaded.config.data().tokenizer());
    check_tokenizer(*loaded.tokenizer, reader);
  }
  loaded.instance = std::make_unique<trainer::ModelInstance>(loaded.config, *world.communicator);
  reader.load_weights(loaded.instance->parameters);
  return loaded;
}

// What to evaluate on: the run's own validation sources, or these token files in their place.
trainer::RunData data_for(const Loaded& loaded, const std::vector<std::string>& prefixes) {
  config::RunConfig config = loaded.config;
  config.mutable_data()->clear_train();
  if (prefixes.empty()) return trainer::open_data(config, loaded.tokenizer.get());
  if (config.data().has_table())
    throw ConfigError("eval: --data names token files, and this run was trained on a table");
  config.mutable_data()->clear_validation();
  trainer::RunData data = trainer::open_data(config, loaded.tokenizer.get());
  data.validation.clear();  // generated text too
  for (const std::string& prefix : prefixes) {
    const std::string name = prefix.substr(prefix.find_last_of('/') + 1);
    data.validation.push_back({name, trainer::open_source(config, loaded.tokenizer.get(), prefix)});
  }
  return data;
}

// suffix: of the names of losses (trainer/log/step_record.h).
nlohmann::ordered_json to_json(const std::vector<trainer::SourceResult>& results,
                               const std::string& suffix) {
  nlohmann::ordered_json json;
  json["loss" + suffix] = trainer::mean_loss(results);
  for (const auto& result : results) {
    auto& entry = json["sources"][result.name];
    entry["loss" + suffix] = result.loss;
    entry["targets"] = result.targets;
    if (result.text_bytes > 0) entry["bits_per_byte" + suffix] = result.bits_per_byte();
    for (const auto& [name, sum] : result.sums)
      entry[trainer::metric_name(name, suffix)] = sum.mean();
    for (const auto& layer : result.layers) entry["expert_load"].push_back(layer.load);
  }
  const size_t layers = results.empty() ? 0 : results[0].layers.size();
  for (size_t layer = 0; layer < layers; ++layer)
    json["mutual_information_bits"].push_back(trainer::mutual_information(results, layer));
  return json;
}

}  // namespace

ExitCode eval(const EvalOptions& options) {
  return run_job(kTimeoutSeconds, [&](parallel::World& world) {
    for (const std::string& set : options.checkpoint.overrides)
      if (set.starts_with("eval.sequences="))
        throw ConfigError(
            "eval: --set eval.sequences is of a run's own evaluations; give --sequences");
    Loaded loaded = load(world, options.checkpoint);
    const trainer::RunData data = data_for(loaded, options.data);
    if (data.validation.empty())
      throw ConfigError(
          "eval: the run has no validation sources; name token files with --data PREFIX");
    const auto results = trainer::evaluate(loaded.config, *loaded.instance, data,
                                           loaded.tokenizer.get(), options.sequences);
    if (world.communicator->rank() == 0)
      print(options.json
                ? to_json(results, trainer::loss_suffix(loaded.config.data())).dump(2) + "\n"
                : trainer::loss_table(results) + trainer::expert_table(results));
    return ExitCode::kDone;
  });
}

ExitCode generate(const GenerateOptions& options) {
  return run_job(kTimeoutSeconds, [&](parallel::World& world) {
    Loaded loaded = load(world, options.checkpoint);
    if (!loaded.tokenizer)
      throw ConfigError(
          "generate: this run was trained on generated tokens, a table, or the bare ids of token "
          "files (data.tokenizer \"none\"), and has no tokenizer to make text with");
    const bool prints = world.communicator->rank() == 0;
    const auto show = [prints](const std::string& piece) {
      if (prints) print(piece);
    };
    show(options.prompt);
    trainer::generate(*loaded.instance, *loaded.tokenizer, options.prompt, options.sampling, show);
    show("\n");
    return ExitCode::kDone;
  });
}

}  // namespace switchyard::commands
