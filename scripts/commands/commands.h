#pragma once
// The commands of the binary, each with its parsed options. Every command returns the process's
// exit code and throws typed errors; main.cc prints those.

#include <cstdint>
#include <string>
#include <vector>

#include "core/base/errors.h"
#include "models/inspect/step_estimate.h"
#include "trainer/generate.h"

namespace switchyard::commands {

struct ConfigOptions {
  std::string path;
  std::vector<std::string> overrides;  // --set
};

struct TrainOptions {
  ConfigOptions config;
  std::string resume = "auto";      // auto, never, or a checkpoint folder
  std::string init_from;            // a checkpoint's or a run's folder; empty: as the config says
  std::vector<std::string> faults;  // --inject, for drills; see trainer/inject.h
};

// A trained model, with some of its config's fields otherwise.
struct CheckpointOptions {
  std::string path;                    // a checkpoint folder or a run's folder
  std::vector<std::string> overrides;  // --set; of fields that a resumed run may change
};

struct EvalOptions {
  CheckpointOptions checkpoint;
  std::vector<std::string> data;  // token files; none: the run's validation sources
  int64_t sequences = 0;          // per source; 0: all
  bool json = false;
};

struct GenerateOptions {
  CheckpointOptions checkpoint;
  std::string prompt;
  trainer::SamplingOptions sampling;
};

struct TokenizeCommand {
  std::vector<std::string> inputs;
  std::string tokenizer;   // "bytes" or a SentencePiece model; with vocab_size: the model to write
  int32_t vocab_size = 0;  // > 0: train a vocabulary first
  std::string out;         // prefix of the token file; empty: only train
  double holdout = 0;      // share of the documents for a second token file
  std::string format;      // lines, paragraphs, jsonl; empty: by the file's name
  int threads = 0;
  double sample_mb = 4;  // text to train the vocabulary on
};

struct InspectOptions {
  ConfigOptions config;  // a run's config, or the name of a model preset
  bool list = false;     // show the model presets instead
  bool hang = false;     // show which rank the run in this folder hung on
  int ranks = 1;
  bool compares_meshes = false;  // all that the config allows on so many ranks
  models::AssumedMachine machine;
  bool json = false;
};

struct RoutingOptions {
  std::string router;  // a run's config, or the name of a model preset
  std::vector<std::string> overrides;
  std::string logits;  // CSV: one row a token, one column an expert
  // Further CSV files, each for the rules that read it; empty: zeros, or drawn with the run's seed.
  std::string biases, noise_logits, noise, gumbels, uniforms, lots, exempt, token_ids;
  std::string group_logits, group_noise_logits, group_noise, thresholds;
  int64_t group_tokens = 0;  // 0: all rows are one routing group
  bool evaluation = false;
  bool json = false;
};

struct DoctorOptions {
  std::string folder = ".";
  bool json = false;
};

struct SelfcheckCommand {
  ConfigOptions config;  // a run's config, or the name of a model preset
  int ranks = 0;         // 0: the job's, or 4
  int64_t steps = 3;
  std::string compute = "FP64";
  bool shrink = false, quick = false;
  std::string inject;  // a mistake to be found; see trainer/selfcheck/mistakes.h
  bool json = false;
};

struct BenchOptions {
  ConfigOptions config;
  int steps = 20;
  bool json = false;
};

struct BenchExchangeOptions {
  int rounds = 40;
  bool json = false;
};

ExitCode train(const TrainOptions& options);
ExitCode eval(const EvalOptions& options);
ExitCode generate(const GenerateOptions& options);
ExitCode tokenize(const TokenizeCommand& options);
ExitCode inspect(const InspectOptions& options);
ExitCode inspect_routing(const RoutingOptions& options);
// Writes report.html into a run's folder.
ExitCode report(const std::string& folder);
ExitCode doctor(const DoctorOptions& options);
// kNumerics: some mesh computes something else than one rank.
ExitCode selfcheck(const SelfcheckCommand& options);
ExitCode bench_step(const BenchOptions& options);
ExitCode bench_exchange(const BenchExchangeOptions& options);

}  // namespace switchyard::commands
