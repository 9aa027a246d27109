#include "core/config/validate.h"

#include <algorithm>
#include <set>
#include <string_view>
#include <tuple>

#include "core/config/compatibility.h"
#include "core/config/fields.h"
#include "core/config/layers.h"
#include "core/config/mesh_shape.h"
#include "core/config/unused_fields.h"
#include "core/config/validate_rules.h"

namespace switchyard::config {
namespace {

using Sources = google::protobuf::RepeatedPtrField<Source>;

// Sequences of one micro-batch over all ranks; 0 when a rule above is broken.
int micro_batch(const Train& train) {
  const bool divides = train.accumulation() > 0 && train.global_batch() > 0 &&
                       train.global_batch() % train.accumulation() == 0;
  return divides ? train.global_batch() / train.accumulation() : 0;
}

// Among how many ranks a micro-batch is shared out; 1 while that is not known.
int num_data_ranks(const RunConfig& config, int num_ranks) {
  const bool is_known =
      num_ranks > 0 && mesh_problems(config.mesh(), config.model(), num_ranks).empty();
  return is_known ? mesh_shape(config.mesh(), config.model(), num_ranks).size(Axis::kData) : 1;
}

void check_batch(const RunConfig& config, int num_ranks, Findings& findings) {
  const Train& train = config.train();
  const int sequences = micro_batch(train);
  if (train.global_batch() > 0 && train.accumulation() > 0 && sequences == 0)
    findings.add("train.accumulation ({}) must divide train.global_batch ({}); change one of them",
                 train.accumulation(), train.global_batch());
  if (sequences == 0) return;
  const int ranks = num_data_ranks(config, num_ranks);
  if (sequences % ranks != 0) {
    findings.add(
        "train.global_batch ({}) / train.accumulation ({}) = {} must be divisible by the "
        "number of data ranks ({}); change the batch or the number of ranks",
        train.global_batch(), train.accumulation(), sequences, ranks);
    return;
  }
  const int group = config.model().moe().capacity().group_sequences();
  if (config.model().has_moe() && group > 0 && sequences / ranks % group != 0)
    findings.add(
        "model.moe.capacity.group_sequences ({}) must divide the {} sequence(s) of a "
        "rank's micro-batch (global_batch {} / accumulation {} / data ranks {}); change one of "
        "them",
        group, sequences / ranks, train.global_batch(), train.accumulation(), ranks);
}

void append(const std::vector<std::string>& lines, Findings& findings) {
  findings.lines.insert(findings.lines.end(), lines.begin(), lines.end());
}

void check_rates(const RunConfig& config, Findings& findings) {
  const Optimizer& optimizer = config.optimizer();
  if (optimizer.lr() > 0 && optimizer.min_lr() > optimizer.lr())
    findings.add(
        "optimizer.min_lr ({}) must be at most optimizer.lr ({}); lower min_lr or raise lr",
        optimizer.min_lr(), optimizer.lr());
  const int64_t steps = config.train().steps();
  if (steps > 0 && optimizer.warmup_steps() > steps)
    findings.add(
        "optimizer.warmup_steps ({}) must be at most train.steps ({}), else the peak rate is never "
        "reached; lower warmup_steps or leave it out (2 % of the steps)",
        optimizer.warmup_steps(), steps);
}

void check_log(const Log& log, Findings& findings) {
  if (log.every() > 0 && log.load_every() % log.every() != 0)
    findings.add(
        "log.load_every ({}) must be a multiple of log.every ({}), as the load stands in the log's "
        "records, or 0; change one of them",
        log.load_every(), log.every());
}

// The same advice about a field is given once, whatever the number of rules that give it. A field
// that nothing reads is to be left out, and no rule need say what else it could be.
void check_compatibility(const RunConfig& config, Findings& findings) {
  const std::vector<std::string> unused = unused_fields(config);
  append(unused, findings);
  std::set<std::tuple<std::string_view, std::string_view, std::string_view>> said;
  for (const auto& topics : {model_compatibility(), routing_compatibility()})
    for (const Topic& topic : topics)
      for (const Rule& rule : topic.rules) {
        const std::string path = std::string(rule.field.path) + " ";
        const auto names = [&](const std::string& line) { return line.starts_with(path); };
        if (std::ranges::any_of(unused, names)) continue;
        const auto message = broken_by(rule, config);
        if (message && said.emplace(rule.field.path, rule.field.wanted, rule.remedy).second)
          findings.lines.push_back(*message);
      }
}

void need(const RunConfig& config, const char* path, const char* meaning, Findings& findings) {
  if (!has_at(config, path))
    findings.add("{} is not set, and has no default; set {}", path, meaning);
}

void need_model(const RunConfig& config, Findings& findings) {
  need(config, "model.num_layers", "the number of layers", findings);
  need(config, "model.d_model", "the width of the residual stream", findings);
  need(config, "model.vocab_size", "the number of tokens that the tokenizer knows", findings);
  const Model& model = config.model();
  if (has_attention(model))
    need(config, "model.attention.num_heads", "the number of attention heads", findings);
  if (model.has_moe()) {
    need(config, "model.moe.num_experts", "the number of experts of a layer", findings);
    need(config, "model.moe.d_ff", "the hidden width of one expert", findings);
  }
  const bool layers_known = !model.has_moe() || model.moe().every_n_layers() > 0;
  if (layers_known && has_dense_ffn(model))
    need(config, "model.d_ff", "the hidden width of the dense layers", findings);
}

void need_table(const RunConfig& config, Findings& findings) {
  need(config, "data.table.path", "the CSV file's path", findings);
  need(config, "data.table.label", "the column of the classes", findings);
  need(config, "data.table.group", "the column of what must not be on both sides of the split",
       findings);
  need(config, "data.table.train_groups", "how many groups to train on", findings);
  need(config, "data.table.test_groups", "how many groups to evaluate on", findings);
}

void need_paths(const char* list, const Sources& sources, Findings& findings) {
  for (int i = 0; i < sources.size(); ++i)
    if (!sources[i].has_path())
      findings.add("{0}[{1}].path is not set; set the token file's path without .bin or .idx", list,
                   i);
}

}  // namespace

std::vector<std::string> missing_fields(const RunConfig& config) {
  Findings findings;
  need_model(config, findings);
  need(config, "train.steps", "the number of optimizer steps", findings);
  need(config, "train.global_batch", "the sequences of one step over all ranks", findings);
  need_paths("data.train", config.data().train(), findings);
  need_paths("data.validation", config.data().validation(), findings);
  if (config.data().has_table()) need_table(config, findings);
  need_schedules(config, findings);
  if (config.data().train_size() == 0 && !config.data().has_synthetic() &&
      !config.data().has_table())
    findings.add(
        "data.train is empty; add train {{ path: \"...\" }} sources, or synthetic {{ }} for "
        "generated tokens");
  return findings.lines;
}

void check_values(const RunConfig& config, int num_ranks, Findings& findings) {
  check_ranges(config, findings);
  check_compatibility(config, findings);
  check_model(config.model(), findings);
  check_data(config, findings);
  check_rates(config, findings);
  check_batch(config, num_ranks, findings);
  append(mesh_problems(config.mesh(), config.model(), num_ranks), findings);
  check_log(config.log(), findings);
  check_sizes(config, findings);
}

std::vector<std::string> broken_rules(const RunConfig& config, int num_ranks) {
  Findings findings;
  check_values(config, num_ranks, findings);
  check_schedules(config, findings);
  return findings.lines;
}

std::vector<std::string> problems(const RunConfig& config, int num_ranks) {
  std::vector<std::string> lines = missing_fields(config);
  const std::vector<std::string> broken = broken_rules(config, num_ranks);
  lines.insert(lines.end(), broken.begin(), broken.end());
  return lines;
}

}  // namespace switchyard::config
