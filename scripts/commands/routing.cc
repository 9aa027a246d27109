// switchyard inspect routing: the training code's routing of logits from a file.

#include <fmt/format.h>

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

// Rows of equal length. Undefined for an empty path.
at::Tensor read_csv(const std::string& path) {
  if (path.empty()) return {};
  const std::string text = read_text_file(path, kLargestFile);
  const std::vector<CsvRow> rows = csv_rows(path, text);
  std::vector<double> values;
  for (const CsvRow& row : rows) {
    for (size_t i = 0; i < row.cells.size(); ++i) values.push_back(csv_number<double>(row, i));
  }
  return at::tensor(values, at::kDouble).view({static_cast<int64_t>(rows.size()), -1});
}

// A further file, which must hold rows x columns numbers in any shape.
at::Tensor read_sized(const std::string& path, int64_t rows, int64_t columns) {
  const at::Tensor values = read_csv(path);
  if (values.defined() && values.numel() != rows * columns)
    throw DataError(fmt::format("{}: holds {} numbers, expected {} ({} x {})", path, values.numel(),
                                rows * columns, rows, columns));
  return values.defined() ? values.view({rows, columns}) : values;
}

// In the type in which training draws them.
at::Tensor as_drawn(const at::Tensor& values) {
  return values.defined() ? values.to(at::kFloat) : values;
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
  if (values.ne(0).logical_and(values.ne(1)).any().item<bool>())
    throw DataError(fmt::format("{}: must hold 0 and 1 alone, one a token", path));
  return values.ne(0);
}

// What training would draw.
void read_draws(const RoutingOptions& options, const config::Moe& moe, models::ReportInput& input) {
  const int64_t tokens = input.router.logits_TE.size(0), experts = moe.num_experts();
  input.noise.normal_TE = read_sized(options.noise, tokens, experts);
  input.noise.gumbel_TE = read_sized(options.gumbels, tokens, experts);
  input.lots.uniform_TN = as_drawn(read_sized(options.uniforms, tokens, moe.top_k() - 1));
  input.lots.lot_TK = as_drawn(read_sized(options.lots, tokens, models::num_choices(moe)));
  input.lots.exempt_T1 = read_flags(options.exempt, tokens);
}

}  // namespace

ExitCode inspect_routing(const RoutingOptions& options) {
  models::ReportInput input;
  const at::Tensor logits = read_csv(options.logits);
  const int64_t tokens = logits.size(0), experts = logits.size(1);
  const config::RunConfig run = load_router(options, experts);
  const config::Moe& moe = run.model().moe();
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
  const at::Tensor ids = read_sized(options.token_ids, tokens, 1);
  input.router.context.token_ids_T =
      ids.defined() ? ids.flatten().to(at::kLong) : at::arange(tokens, at::kLong);
  read_extras(options, moe, input);
  read_draws(options, moe, input);
  print(models::routing_report(moe, std::move(input), run.seed(), options.json));
  return ExitCode::kDone;
}

}  // namespace switchyard::commands
