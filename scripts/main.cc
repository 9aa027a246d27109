// switchyard: trains, evaluates and samples mixture-of-experts models. This file parses the command
// line; the commands are in scripts/commands/.

#include <charconv>
#include <cstdio>
#include <exception>
#include <functional>
#include <limits>
#include <memory>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "core/base/process.h"
#include "core/base/version.h"
#include "parallel/crash_report.h"
#include "parallel/flight_report.h"
#include "scripts/commands/commands.h"

namespace {

using namespace switchyard;
using Command = std::function<ExitCode()>;

// The whole of the text must be a number in the range: CLI11's own checks let "nan" through, and
// cut what is too large for the type.
template <typename Number>
CLI::Validator within(Number low, Number high) {
  const auto problem = [low, high](const std::string& text) {
    Number value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    const bool holds =
        error == std::errc() && end == text.data() + text.size() && value >= low && value <= high;
    return holds ? "" : fmt::format("expected a number from {} to {}, got {}", low, high, text);
  };
  return CLI::Validator(problem, fmt::format("in [{}, {}]", low, high));
}

// Has the subcommand, if it is called, leave what is to be run with its options.
template <typename Options>
void on_call(CLI::App& sub, Command& command, const std::shared_ptr<Options>& options,
             ExitCode (*run)(const Options&)) {
  sub.callback([&command, options, run] { command = [options, run] { return run(*options); }; });
}

void add_overrides(CLI::App& app, std::vector<std::string>& overrides,
                   const char* what = "Overrides a field: --set model.moe.top_k=1") {
  app.add_option("--set", overrides, what)->allow_extra_args(false);
}

void add_config(CLI::App& app, commands::ConfigOptions& options) {
  app.add_option("config", options.path, "The run's config, text format")->required();
  add_overrides(app, options.overrides);
}

void add_checkpoint(CLI::App& app, commands::CheckpointOptions& options) {
  app.add_option("checkpoint", options.path, "A checkpoint or a run's folder")->required();
  add_overrides(app, options.overrides,
                "Overrides a field that may change: --set runtime.threads=1");
}

void add_train(CLI::App& app, Command& command) {
  CLI::App& sub = *app.add_subcommand(
      "train", "Trains a model; scripts/launch -n N starts it on several ranks");
  const auto options = std::make_shared<commands::TrainOptions>();
  add_config(sub, options->config);
  sub.add_option("--resume", options->resume, "auto, never, or a checkpoint")
      ->capture_default_str();
  sub.add_option("--inject", options->faults)->allow_extra_args(false)->group("");  // hidden
  sub.add_option("--init-from,--init_from", options->init_from,
                 "A checkpoint or a run's folder whose weights a new run starts from")
      ->check([](const std::string& path) { return path.empty() ? "a path is missing" : ""; });
  on_call(sub, command, options, commands::train);
}

void add_eval(CLI::App& app, Command& command) {
  CLI::App& sub = *app.add_subcommand("eval", "Loss, bits per byte and routing on held-out text");
  const auto options = std::make_shared<commands::EvalOptions>();
  add_checkpoint(sub, options->checkpoint);
  sub.add_option("--data", options->data,
                 "Token files (without .bin); default: the run's validation sources");
  sub.add_option("--sequences", options->sequences,
                 "At most so many per source; 0, the default, is all")
      ->check(within<int64_t>(0, std::numeric_limits<int64_t>::max()));
  sub.add_flag("--json", options->json, "For programs");
  on_call(sub, command, options, commands::eval);
}

void add_generate(CLI::App& app, Command& command) {
  CLI::App& sub = *app.add_subcommand("generate", "Continues a text");
  const auto options = std::make_shared<commands::GenerateOptions>();
  add_checkpoint(sub, options->checkpoint);
  sub.add_option("--prompt", options->prompt, "The beginning; may be empty");
  sub.add_option("--max-tokens", options->sampling.max_tokens,
                 "At most so many tokens after the prompt")
      ->check(within<int64_t>(0, 1'000'000'000))
      ->capture_default_str();
  sub.add_option("--temperature", options->sampling.temperature, "0 takes the likeliest token")
      ->check(within(0.0, 1e6))
      ->capture_default_str();
  sub.add_option("--top-p", options->sampling.top_p,
                 "Draw from the likeliest tokens that have this probability together")
      ->check(within(0.0, 1.0))
      ->capture_default_str();
  sub.add_option("--seed", options->sampling.seed, "Of the draws")
      ->check(within<uint64_t>(0, std::numeric_limits<uint64_t>::max()))
      ->capture_default_str();
  on_call(sub, command, options, commands::generate);
}

void add_tokenize(CLI::App& app, Command& command) {
  CLI::App& sub = *app.add_subcommand(
      "tokenize", "Text to token files; trains a SentencePiece vocabulary if asked");
  const auto options = std::make_shared<commands::TokenizeCommand>();
  sub.add_option("inputs", options->inputs, "Text files")->required();
  sub.add_option("--tokenizer", options->tokenizer,
                 "bytes, or a SentencePiece model to use or to write")
      ->required();
  sub.add_option("--vocab-size", options->vocab_size,
                 "Trains a vocabulary of this size into --tokenizer first")
      ->check(CLI::PositiveNumber);
  sub.add_option("--sample-mb", options->sample_mb, "Text that the vocabulary is trained on")
      ->check(within(0.001, 1e9))
      ->capture_default_str();
  sub.add_option("--out", options->out, "Prefix of the token file to write");
  sub.add_option("--holdout", options->holdout,
                 "Share of the documents, such as 0.01, that goes to OUT_holdout, for evaluation")
      ->check(within(0.0, 0.5));
  sub.add_option("--format", options->format,
                 "lines, paragraphs or jsonl; default: by the file's name");
  sub.add_option("--threads", options->threads, "0 is all cores")->check(within(0, 4096));
  on_call(sub, command, options, commands::tokenize);
}

void add_inspect_routing(CLI::App& inspect, Command& command) {
  CLI::App& sub = *inspect.add_subcommand(
      "routing", "Who goes where for given router logits: slots, weights, drops, losses");
  const auto options = std::make_shared<commands::RoutingOptions>();
  sub.add_option("--router", options->router, "A run's config, or a model preset")->required();
  sub.add_option("--set", options->overrides, "Overrides a field: --set moe.top_k=1")
      ->allow_extra_args(false);
  sub.add_option("--logits", options->logits, "CSV, one row a token, one column an expert")
      ->required();
  sub.add_option("--biases", options->biases, "CSV, selection bias per expert; default: zeros");
  sub.add_option("--noise-logits", options->noise_logits,
                 "CSV as --logits: input times the noise weights; default: zeros");
  sub.add_option("--noise", options->noise, "CSV as --logits: standard normal draws");
  sub.add_option("--gumbels", options->gumbels,
                 "CSV as --logits: standard Gumbel draws of SAMPLED and SAMPLED_SECOND");
  sub.add_option("--uniforms", options->uniforms,
                 "CSV, one row a token: draws for each choice after the first");
  sub.add_option("--lots", options->lots, "CSV, one row a token: draws of AT_RANDOM_ORDER");
  sub.add_option("--exempt", options->exempt,
                 "CSV, one a token: 1 where DEVICE_BUDGET never drops, else 0");
  sub.add_option("--token-ids", options->token_ids, "CSV, one a token; default: 0, 1, ...");
  sub.add_option("--group-logits", options->group_logits,
                 "CSV, one row a token, one column a group: TWO_LEVEL; default: zeros");
  sub.add_option("--group-noise-logits", options->group_noise_logits,
                 "CSV as --group-logits; default: zeros");
  sub.add_option("--group-noise", options->group_noise, "CSV as --group-logits: normal draws");
  sub.add_option("--thresholds", options->thresholds,
                 "CSV, one an expert: STRICTLY_BALANCED; default: 1 / experts");
  sub.add_option("--group-tokens", options->group_tokens, "Tokens of a routing group; default: all")
      ->check(within<int64_t>(0, std::numeric_limits<int64_t>::max()));
  sub.add_flag("--evaluation", options->evaluation, "Without draws, evaluation capacity");
  sub.add_flag("--json", options->json, "For programs");
  on_call(sub, command, options, commands::inspect_routing);
}

// Numbers that people know in larger units than the program's.
void add_scaled(CLI::App& sub, const char* name, double& value, double unit, const char* what) {
  sub.add_option_function<double>(
         name, [&value, unit](double in_units) { value = in_units * unit; }, what)
      ->check(CLI::PositiveNumber)
      ->default_str(value > 0 ? fmt::format("{:g}", value / unit) : "");
}

void add_machine(CLI::App& sub, commands::InspectOptions& options) {
  models::AssumedMachine& machine = options.machine;
  sub.add_flag(
      "--meshes", options.compares_meshes,
      "Compares all meshes of so many ranks, with the degrees that the config sets: memory, "
      "traffic, estimated time of a step");
  sub.add_option("--node-ranks", machine.node_ranks, "Neighbouring ranks that share a node")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  add_scaled(sub, "--rank-gib", machine.memory, 1 << 30,
             "Memory of a rank: --meshes leaves out what needs more; default: any");
  add_scaled(sub, "--rank-tflops", machine.flops, 1e12,
             "What --meshes assumes that a rank reaches in products");
  add_scaled(sub, "--node-gbs", machine.node_bytes, 1e9,
             "GB/s that --meshes assumes a rank to send within its node");
  add_scaled(sub, "--network-gbs", machine.network_bytes, 1e9,
             "GB/s that --meshes assumes a rank to send to other nodes");
  add_scaled(sub, "--message-us", machine.message_seconds, 1e-6,
             "Microseconds that --meshes assumes of each message");
}

void add_inspect(CLI::App& app, Command& command) {
  CLI::App& sub = *app.add_subcommand(
      "inspect", "What a config means: parameters, operations, mesh, losses, memory");
  const auto options = std::make_shared<commands::InspectOptions>();
  sub.require_subcommand(0, 1);
  add_inspect_routing(sub, command);
  sub.add_option(
      "config", options->config.path,
      "A run's config, or the name of a model, such as mixtral_8x7b; with --hang a run's folder");
  add_overrides(sub, options->config.overrides);
  sub.add_flag("--list", options->list,
               "Shows all models with their sizes and sources, and all recipes");
  sub.add_option("-n,--ranks", options->ranks, "Ranks that mesh, memory and time are shown for")
      ->check(CLI::PositiveNumber);
  add_machine(sub, *options);
  CLI::Option* json = sub.add_flag("--json", options->json, "For programs");
  sub.add_flag("--hang", options->hang,
               "Of a run's folder: which rank the run hung on, from the records of all")
      ->excludes(json);
  sub.callback([&command, &sub, options] {
    if (!sub.get_subcommands().empty()) return;
    if (options->config.path.empty() && !options->list) throw CLI::RequiredError("config");
    command = [options] { return commands::inspect(*options); };
  });
}

void add_report(CLI::App& app, Command& command) {
  CLI::App& sub = *app.add_subcommand(
      "report", "Draws a run's losses, learning rate, load and drops: RUN/report.html");
  const auto folder = std::make_shared<std::string>();
  sub.add_option("run", *folder, "A run's folder, of a run that goes on or is over")->required();
  on_call(sub, command, folder, commands::report);
}

void add_doctor(CLI::App& app, Command& command) {
  CLI::App& sub =
      *app.add_subcommand("doctor", "What works on this machine, and what to do about the rest");
  const auto options = std::make_shared<commands::DoctorOptions>();
  sub.add_option("--folder", options->folder, "Where runs will be written")->capture_default_str();
  sub.add_flag("--json", options->json, "For programs");
  on_call(sub, command, options, commands::doctor);
}

void add_selfcheck(CLI::App& app, Command& command) {
  CLI::App& sub = *app.add_subcommand(
      "selfcheck", "Whether every mesh of N ranks computes what one rank does, on your config");
  const auto options = std::make_shared<commands::SelfcheckCommand>();
  sub.add_option("config", options->config.path,
                 "A run's config, or the name of a model, such as mixtral_8x7b")
      ->required();
  add_overrides(sub, options->config.overrides);
  sub.add_option("-n,--ranks", options->ranks,
                 "Ranks of the meshes: threads of this process, 4 by default; in a job its own")
      ->check(within(2, 1024));
  sub.add_option("--steps", options->steps, "Steps of each run")
      ->check(within<int64_t>(1, 1'000'000))
      ->capture_default_str();
  sub.add_option("--compute", options->compute, "FP64, FP32 or BF16, whatever the config says")
      ->check(CLI::IsMember({"FP64", "FP32", "BF16"}))
      ->capture_default_str();
  sub.add_flag("--shrink", options->shrink,
               "The model in miniature, on generated text: same kinds of layers, same choices");
  sub.add_flag("--quick", options->quick,
               "Few meshes: each axis, and each pair of axes, has several ranks in one of them");
  sub.add_option("--inject", options->inject,
                 "Makes a mistake that must be found; a wrong name lists all");
  sub.add_flag("--json", options->json, "For programs");
  sub.callback(
      [&command, options] { command = [options] { return commands::selfcheck(*options); }; });
}

void add_bench(CLI::App& app, Command& command) {
  CLI::App& bench =
      *app.add_subcommand("bench", "Measures this machine: a training step, exchange");
  bench.require_subcommand(1);
  CLI::App& sub = *bench.add_subcommand(
      "step", "A training step: tokens per second, share of the matrix-product rate, its parts");
  const auto options = std::make_shared<commands::BenchOptions>();
  add_config(sub, options->config);
  sub.add_option("--steps", options->steps, "Measured steps")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  sub.add_flag("--json", options->json, "For programs");
  on_call(sub, command, options, commands::bench_step);

  CLI::App& exchange = *bench.add_subcommand(
      "exchange", "All-to-all and all-reduce of a job's ranks, beside MPI's own calls");
  const auto exchange_options = std::make_shared<commands::BenchExchangeOptions>();
  exchange.add_option("--rounds", exchange_options->rounds, "Of each collective, size and side")
      ->check(within(3, 100'000))
      ->capture_default_str();
  exchange.add_flag("--json", exchange_options->json, "For programs");
  on_call(exchange, command, exchange_options, commands::bench_exchange);
}

int run(int argc, char** argv) {
  CLI::App app("Trains mixture-of-experts models.");
  app.set_version_flag("--version", fmt::format("switchyard {}", kVersion));
  // None is an error too, but below: here it would hide a misspelt one.
  app.require_subcommand(0, 1);
  Command command;
  for (const auto add : {add_train, add_eval, add_generate, add_tokenize, add_inspect, add_report,
                         add_doctor, add_selfcheck, add_bench}) {
    add(app, command);
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : static_cast<int>(ExitCode::kConfig);
  }
  if (!command) throw ConfigError("a subcommand is required:\n" + app.help());
  return static_cast<int>(command());
}

}  // namespace

int main(int argc, char** argv) {
  prepare_process();
  parallel::install_crash_report();
  parallel::install_flight_report();
  try {
    return run(argc, argv);
  } catch (const Error& error) {
    std::fputs(fmt::format("error[{}]: {}\n", static_cast<int>(error.code()), error.what()).c_str(),
               stderr);
    return static_cast<int>(error.code());
  } catch (const std::exception& error) {
    std::fputs(fmt::format("error[1]: {}\n", error.what()).c_str(), stderr);
    return static_cast<int>(ExitCode::kBug);
  }
}
