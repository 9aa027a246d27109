// switchyard tokenize, inspect, report and doctor: commands of a single process.

#include <algorithm>

#include <fmt/format.h>

#include "core/base/log.h"
#include "core/base/threads.h"
#include "core/config/mesh_shape.h"
#include "core/data/tokenize.h"
#include "core/data/tokenizer_training.h"
#include "core/io/file_system.h"
#include "models/catalog/catalog.h"
#include "models/inspect/describe.h"
#include "models/model.h"
#include "scripts/commands/commands.h"
#include "scripts/commands/job.h"
#include "scripts/commands/output.h"
#include "trainer/log/hang_report.h"
#include "trainer/log/progress.h"
#include "trainer/log/report.h"
#include "trainer/log/step_record.h"
#include "trainer/machine/doctor.h"
#include "trainer/machine/peak_rate.h"
#include "trainer/products.h"
#include "trainer/selfcheck/meshes.h"

namespace switchyard::commands {
namespace {

TextFormat format_of(const TokenizeCommand& options) {
  return options.format.empty() ? guess_text_format(options.inputs.front())
                                : parse_text_format(options.format);
}

void train_vocabulary(const TokenizeCommand& options) {
  print(fmt::format("tokenize: training {} pieces on up to {} MB of text\n", options.vocab_size,
                    options.sample_mb));
  const auto lines = sample_lines(options.inputs, format_of(options),
                                  static_cast<int64_t>(options.sample_mb * 1e6));
  const std::string model =
      train_sentencepiece(lines, {options.vocab_size, /*byte_fallback=*/true});
  write_file_atomically(FileSystem(), options.tokenizer, std::as_bytes(std::span(model)));
  print(fmt::format("tokenize: wrote {}\n", options.tokenizer));
}

void encode(const TokenizeCommand& options) {
  const auto tokenizer = load_tokenizer(options.tokenizer);
  switchyard::TokenizeOptions job;
  job.inputs = options.inputs;
  if (!options.format.empty()) job.format = parse_text_format(options.format);
  job.out = options.out;
  job.holdout = options.holdout;
  job.threads = options.threads > 0 ? options.threads : available_cores();
  trainer::ProgressBar bar(trainer::wants_progress_bar());
  const TokenizeResult result = switchyard::tokenize(
      job, *tokenizer, [&](int64_t done, int64_t total) { bar.update(done, total, options.out); });
  bar.clear();
  print(fmt::format("tokenize: {}: {} documents, {} bytes, {} tokens\n", options.out,
                    result.text.documents, result.text.bytes, result.tokens));
  if (options.holdout > 0)
    print(fmt::format("tokenize: {}: {} of these documents, {} tokens\n",
                      held_out_prefix(options.out), result.held_out_documents,
                      result.held_out_tokens));
  if (result.text.invalid_utf8_bytes > 0)
    warn("{} bytes in {} documents were not UTF-8 and became byte tokens",
         result.text.invalid_utf8_bytes, result.text.invalid_utf8_documents);
  if (result.text.skipped_records > 0)
    warn("{} JSON lines had no text and were skipped", result.text.skipped_records);
}

}  // namespace

ExitCode tokenize(const TokenizeCommand& options) {
  if (options.vocab_size > 0) train_vocabulary(options);
  if (!options.out.empty()) encode(options);
  if (options.vocab_size == 0 && options.out.empty())
    throw ConfigError(
        "tokenize: nothing to do: give --out PREFIX for token files, --vocab-size N to train a "
        "vocabulary, or both");
  return ExitCode::kDone;
}

namespace {

std::string mesh_table(const config::RunConfig& config, const InspectOptions& options) {
  if (!config.train().has_global_batch())
    throw ConfigError(
        "--meshes compares steps, and the size of a step is not known: add --set "
        "train.global_batch=N");
  std::vector<MeshShape> shapes;
  for (const config::Mesh& mesh : trainer::legal_meshes(config, options.ranks, config.mesh()))
    shapes.push_back(config::mesh_shape(mesh, config.model(), options.ranks));
  return models::compare_meshes(config, shapes, options.machine, options.json);
}

}  // namespace

ExitCode inspect(const InspectOptions& options) {
  if (options.list) {
    print(
        models::catalog_text(models::catalog("configs"), models::recipes("configs"), options.json));
    return ExitCode::kDone;
  }
  if (options.hang) {
    print(trainer::hang_report(trainer::read_hang_records(options.config.path)));
    return ExitCode::kDone;
  }
  config::RunConfig config =
      load_run_or_model(options.config, options.compares_meshes ? 0 : options.ranks);
  *config.mutable_runtime() = trainer::with_best_products(config.runtime());
  if (options.compares_meshes) {
    print(mesh_table(config, options));
    return ExitCode::kDone;
  }
  const int asked = config.runtime().threads();
  const int threads = asked > 0 ? asked : std::max(1, available_cores() / options.ranks);
  // A preset alone is no run, whose time one could ask for.
  const double rate =
      names_file(options.config.path)
          ? trainer::known_peak_rate(models::compute_type(config), options.ranks, threads)
          : 0;
  print(models::inspect_config(config, options.ranks, options.json,
                               {options.machine.node_ranks, rate}));
  return ExitCode::kDone;
}

ExitCode report(const std::string& folder) {
  print(fmt::format("report: wrote {}\n", trainer::write_report(folder)));
  return ExitCode::kDone;
}

ExitCode doctor(const DoctorOptions& options) {
  const auto checks = trainer::run_doctor(options.folder);
  print(options.json ? trainer::render_json(checks) : trainer::render_text(checks));
  return trainer::overall(checks) == trainer::Verdict::kFailure ? ExitCode::kConfig
                                                                : ExitCode::kDone;
}

}  // namespace switchyard::commands
