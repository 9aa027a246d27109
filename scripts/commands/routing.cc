// switchyard inspect routing: the training code's routing of logits from a file.

#include <filesystem>
#include <limits>

#include <fmt/format.h>

#include "core/base/errors.h"
#include "core/data/csv.h"
#include "core/io/file_system.h"
#include "core/tensor/aten.h"
#include "models/inspect/routing_report.h"
#include "models/moe/router/selection.h"
#include "scripts/commands/commands.h"
#include "scripts/commands/job.h"
#include "scripts/commands/output.h"

namespace switchyard::commands {
namespace {

constexpr uint64_t kLargestFile = uint64_t{1} << 28;  // bytes

// A further file that only some routers read.
struct Extra {
  const char* option;
  std::string RoutingOptions::*path;
  const char* field;  // what must be set for it to be read
  bool (*is_read)(const config::Moe& moe);
  bool is_drawn = false;  // in training alone
};
bool has_two_levels(const config::Moe& moe) { return moe.router().hierarchy() > config::ONE_LEVEL; }
bool learns_noise(const config::Moe& moe) { return moe.router().noise() == config::LEARNED_NOISE; }
constexpr Extra kExtras[] = {
    {"--biases", &RoutingOptions::biases, "moe.router.selection_bias=true",
     [](const config::Moe& moe) { return moe.router().selection_bias(); }},
    {"--noise-logits", &RoutingOptions::noise_logits, "moe.router.noise=LEARNED_NOISE",
     learns_noise},
    {"--noise", &RoutingOptions::noise, "moe.router.noise=LEARNED_NOISE or FIXED_NOISE",
     [](const config::Moe& moe) { return moe.router().noise() > config::NO_NOISE; }, true},
    {"--gumbels", &RoutingOptions::gumbels,
     "moe.router.selection=SAMPLED or moe.router.second_choice=SAMPLED_SECOND",
     [](const config::Moe& moe) {
       return moe.router().selection() == config::SAMPLED ||
              moe.router().second_choice() == config::SAMPLED_SECOND;
     },
     true},
    {"--uniforms", &RoutingOptions::uniforms, "moe.router.second_choice=AT_RANDOM",
     [](const config::Moe& moe) { return moe.router().second_choice() == config::AT_RANDOM; },
     true},
    {"--lots", &RoutingOptions::lots, "moe.capacity.policy=AT_RANDOM_ORDER",
     [](const config::Moe& moe) { return moe.capacity().policy() == config::AT_RANDOM_ORDER; },
     true},
    {"--exempt", &RoutingOptions::exempt, "moe.capacity.policy=DEVICE_BUDGET",
     [](const config::Moe& moe) { return moe.capacity().policy() == config::DEVICE_BUDGET; }, true},
    {"--token-ids", &RoutingOptions::token_ids, "moe.router.selection=HASH",
     [](const config::Moe& moe) { return moe.router().selection() == config::HASH; }},
    {"--group-logits", &RoutingOptions::group_logits, "moe.router.hierarchy=TWO_LEVEL",
     has_two_levels},
    {"--group-noise-logits", &RoutingOptions::group_noise_logits,
     "moe.router.hierarchy=TWO_LEVEL and moe.router.noise=LEARNED_NOISE",
     [](const config::Moe& moe) { return has_two_levels(moe) && learns_noise(moe); }},
    {"--group-noise", &RoutingOptions::group_noise,
     "moe.router.hierarchy=TWO_LEVEL and moe.router.noise=LEARNED_NOISE",
     [](const config::Moe& moe) { return has_two_levels(moe) && learns_noise(moe); }, true},
    {"--thresholds", &RoutingOptions::thresholds, "moe.router.selection=STRICTLY_BALANCED",
     [](const config::Moe& moe) { return moe.router().selection() == config::STRICTLY_BALANCED; }}};

void refuse_unread(const RoutingOptions& options, const config::Moe& moe) {
  for (const Extra& extra : kExtras) {
    if ((options.*extra.path).empty()) continue;
    if (!extra.is_read(moe)) {
      throw ConfigError(fmt::format("{}: this router does not read it; --set {}, or leave {} out",
                                    extra.option, extra.field, extra.option));
    }
    if (extra.is_drawn && options.evaluation) {
      throw ConfigError(fmt::format("{}: evaluation draws nothing; leave {} or --evaluation out",
                                    extra.option, extra.option));
    }
  }
}

void expect(const at::Tensor& holds, const std::string& path, const char* what) {
  if (!holds.all().item<bool>()) throw DataError(fmt::format("{}: must hold {}", path, what));
}

// Rows of equal length. Undefined for an empty path.
at::Tensor read_csv(const std::string& path) {
  if (path.empty()) return {};
  if (!std::filesystem::exists(path)) {
    throw DataError(fmt::format("{}: there is no such file", path));
  }
  const std::string text = read_text_file(path, kLargestFile);
  const std::vector<CsvRow> rows = csv_rows(path, text);
  std::vector<double> values;
  for (const CsvRow& row : rows) {
    for (size_t i = 0; i < row.cells.size(); ++i) values.push_back(csv_number<double>(row, i));
  }
  const at::Tensor table = at::tensor(values, at::kDouble);
  expect(table.abs().le(std::numeric_limits<float>::max()), path,
         "numbers up to 3.4e38, as routers compute in float32");
  return table.view({static_cast<int64_t>(rows.size()), -1});
}

// A further file, which must hold rows x columns numbers in any shape.
at::Tensor read_sized(const std::string& path, int64_t rows, int64_t columns) {
  const at::Tensor values = read_csv(path);
  if (values.defined() && values.numel() != rows * columns)
    throw DataError(fmt::format("{}: holds {} numbers, expected {} ({} x {})", path, values.numel(),
                                rows * columns, rows, columns));
  return values.defined() ? values.view({rows, columns}) : values;
}

// Draws of [0, 1), in the type in which training draws them.
at::Tensor read_uniforms(const std::string& path, int64_t rows, int64_t columns) {
  const at::Tensor values = read_sized(path, rows, columns);
  if (!values.defined()) return values;
  const at::Tensor drawn = values.to(at::kFloat);
  expect(drawn.ge(0).logical_and(drawn.lt(1)), path, "draws from [0, 1)");
  return drawn;
}

// One id a token, [T]; by default 0, 1, ...
at::Tensor read_token_ids(const std::string& path, int64_t tokens) {
  const at::Tensor values = read_sized(path, tokens, 1);
  if (!values.defined()) return at::arange(tokens, at::kLong);
  const at::Tensor ids = values.flatten();
  expect(ids.ge(0).logical_and(ids.le(std::numeric_limits<int32_t>::max())), path,
         "ids of tokens, from 0 to 2147483647");
  expect(ids.eq(ids.floor()), path, "ids of tokens, which are whole numbers");
  return ids.to(at::kLong);
}

// The config with as many experts as the logits. Any rule may be looked at, whatever model could
// use it.
config::RunConfig load_router(const RoutingOptions& options, int64_t num_experts) {
  if (!load_run_or_model({options.router, {}}, 1).model().has_moe())
    throw ConfigError(fmt::format(
        "--router {}: a model without experts has no router; choose another", options.router));
  std::vector<std::string> overrides = {fmt::format("model.moe.num_experts={}", num_experts),
                                        "model.moe.allow_future=true"};
  for (const std::string& set : options.overrides)
    overrides.push_back(set.starts_with("moe.") ? "model." + set : set);
  return load_run_or_model({options.router, overrides}, 1);
}

// What the two-level gate and the learned thresholds need beside the logits.
void read_extras(const RoutingOptions& options, const config::Moe& moe,
                 models::ReportInput& input) {
  const int64_t tokens = input.router.logits_TE.size(0), experts = moe.num_experts();
  if (moe.router().hierarchy() > config::ONE_LEVEL) {
    const int64_t groups = moe.router().num_groups();
    const auto or_zeros = [&](at::Tensor values) {
      return values.defined() ? values : at::zeros({tokens, groups}, at::kDouble);
    };
    input.router.group_logits_TA = or_zeros(read_sized(options.group_logits, tokens, groups));
    input.router.group_noise_logits_TA =
        or_zeros(read_sized(options.group_noise_logits, tokens, groups));
    input.noise.group_normal_TA = read_sized(options.group_noise, tokens, groups);
  }
  if (moe.router().selection() == config::STRICTLY_BALANCED) {
    const at::Tensor threshold = read_sized(options.thresholds, 1, experts);
    input.router.threshold_E =
        threshold.defined() ? threshold.flatten()
                            : at::full({experts}, 1.0 / static_cast<double>(experts), at::kDouble);
  }
}

// [T, 1] bool, from 0 and 1.
at::Tensor read_flags(const std::string& path, int64_t tokens) {
  const at::Tensor values = read_sized(path, tokens, 1);
  if (!values.defined()) return {};
  expect(values.eq(0).logical_or(values.eq(1)), path, "0 and 1 alone, one a token");
  return values.ne(0);
}

// What training would draw.
void read_draws(const RoutingOptions& options, const config::Moe& moe, models::ReportInput& input) {
  const int64_t tokens = input.router.logits_TE.size(0), experts = moe.num_experts();
  input.noise.normal_TE = read_sized(options.noise, tokens, experts);
  input.noise.gumbel_TE = read_sized(options.gumbels, tokens, experts);
  input.lots.uniform_TN = read_uniforms(options.uniforms, tokens, moe.top_k() - 1);
  input.lots.lot_TK = read_uniforms(options.lots, tokens, models::num_choices(moe));
  input.lots.exempt_T1 = read_flags(options.exempt, tokens);
}

}  // namespace

ExitCode inspect_routing(const RoutingOptions& options) {
  models::ReportInput input;
  const at::Tensor logits = read_csv(options.logits);
  const int64_t tokens = logits.size(0), experts = logits.size(1);
  if (experts < 2) {
    throw DataError(fmt::format(
        "{}: has one column; expected one row a token and one column an expert, of which there "
        "must be at least 2",
        options.logits));
  }
  const config::RunConfig run = load_router(options, experts);
  const config::Moe& moe = run.model().moe();
  refuse_unread(options, moe);
  input.training = !options.evaluation;
  input.router.logits_TE = logits;
  input.router.context.group_tokens = options.group_tokens > 0 ? options.group_tokens : tokens;
  if (tokens % input.router.context.group_tokens != 0)
    throw ConfigError(fmt::format("--group-tokens ({}) must divide the {} rows of {}",
                                  options.group_tokens, tokens, options.logits));
  input.router.noise_logits_TE = read_sized(options.noise_logits, tokens, experts);
  if (!input.router.noise_logits_TE.defined())
    input.router.noise_logits_TE = at::zeros_like(logits);
  const at::Tensor bias = read_sized(options.biases, 1, experts);
  if (bias.defined()) input.router.bias_E = bias.flatten();
  input.router.context.token_ids_T = read_token_ids(options.token_ids, tokens);
  read_extras(options, moe, input);
  read_draws(options, moe, input);
  print(models::routing_report(moe, std::move(input), run.seed(), options.json));
  return ExitCode::kDone;
}

}  // namespace switchyard::commands
