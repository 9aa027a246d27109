#include "core/config/validate.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <string_view>

#include "core/config/fields.h"
#include "core/config/layers.h"
#include "core/config/suggest.h"
#include "core/config/unused_fields.h"
#include "core/config/validate_rules.h"
#include "core/data/span_corruption.h"

namespace switchyard::config {

namespace {

using Sources = google::protobuf::RepeatedPtrField<Source>;

constexpr size_t kLongestName = 128;

bool has_control(std::string_view text) {
  return std::any_of(text.begin(), text.end(),
                     [](unsigned char c) { return c < 0x20 || c == 0x7F; });
}

// Names become parts of file names and metric keys.
void check_name(const std::string& path, const std::string& name, Findings& findings) {
  const bool is_safe = !name.empty() && name.size() <= kLongestName && name[0] != '.' &&
                       name[0] != '-' && name.find('/') == std::string::npos &&
                       name.find("..") == std::string::npos && !has_control(name);
  if (!is_safe)
    findings.add(
        "{} ({}) must be 1 to {} characters, without \"/\", \"..\" or control characters, "
        "and must not begin with \".\" or \"-\"; choose a plain name",
        path, quote(name), kLongestName);
}

void check_file_path(const std::string& path, const std::string& value, Findings& findings) {
  if (value.empty() || value[0] == '-' || has_control(value))
    findings.add(
        "{} ({}) must be a path without control characters that does not begin with "
        "\"-\"; write ./-name for such a file",
        path, quote(value));
}

void check_sources(const std::string& list, const Sources& sources, Findings& findings) {
  std::map<std::string, std::string> first_with;
  for (int i = 0; i < sources.size(); ++i) {
    const Source& source = sources[i];
    const std::string path = fmt::format("{}[{}]", list, i);
    if (source.has_path()) check_file_path(path + ".path", source.path(), findings);
    if (source.has_name()) {
      check_name(path + ".name", source.name(), findings);
      const auto [first, is_new] = first_with.insert({source.name(), path});
      if (!is_new)
        findings.add("{}.name ({}) must be unique, but {} has it too; set name in one of them",
                     path, quote(source.name()), first->second);
    }
    if (source.has_weight() && (!std::isfinite(source.weight()) || source.weight() <= 0))
      findings.add("{}.weight ({}) must be finite and above 0; leave out a source with no share",
                   path, source.weight());
  }
}

void check_data(const Data& data, Findings& findings) {
  check_sources("data.train", data.train(), findings);
  check_sources("data.validation", data.validation(), findings);
  if (data.has_synthetic() && data.train_size() > 0)
    findings.add(
        "data.synthetic must not be set together with data.train ({} source(s)); leave one "
        "of them out",
        data.train_size());
  for (int i = 0; i < data.validation_size(); ++i)
    if (data.validation(i).has_weight())
      findings.add(
          "data.validation[{}].weight ({}) is set, but each validation source is evaluated by "
          "itself; leave it out",
          i, data.validation(i).weight());
  if (data.has_tokenizer()) check_file_path("data.tokenizer", data.tokenizer(), findings);
  if (data.tokenizer() == "none" && data.objective() != NEXT_TOKEN)
    findings.add(
        "data.tokenizer (none) must be used with objective NEXT_TOKEN, got {}: others need the "
        "token that ends a document; name the tokenizer",
        Objective_Name(data.objective()));
  if (data.spans().mean_length() > data.sequence_length() && data.sequence_length() > 0)
    findings.add(
        "data.spans.mean_length ({}) must be at most data.sequence_length ({}), what the encoder "
        "reads; lower it",
        data.spans().mean_length(), data.sequence_length());
}

void check_domains(const RunConfig& config, Findings& findings) {
  constexpr int kSuccessors = 8;  // distinct words that may follow a word
  const int vocab_size = config.model().vocab_size();
  const int domains = config.data().synthetic().num_domains();
  if (vocab_size > 0 && domains > 0 && vocab_size - domains < kSuccessors)
    findings.add(
        "model.vocab_size ({}) must exceed data.synthetic.num_domains ({}) by at least {} words; "
        "change one of them",
        vocab_size, domains, kSuccessors);
  if (config.data().objective() != NEXT_TOKEN)
    findings.add(
        "data.synthetic.kind DOMAIN_BIGRAMS needs objective NEXT_TOKEN, got {}; leave kind out",
        Objective_Name(config.data().objective()));
}

// Ids that the spans of a text take; 0 when a rule about them is broken.
int64_t num_sentinels(const Data& data) {
  constexpr int kShortest = 4;  // of fit_input
  const Spans& spans = data.spans();
  const bool sound = data.sequence_length() >= kShortest && spans.density() > 0 &&
                     spans.density() < 1 && spans.mean_length() >= 1;
  if (data.objective() != SPAN_CORRUPTION || !sound) return 0;
  return fit_input(data.sequence_length(), {spans.density(), spans.mean_length()}).spans;
}

void check_vocabulary(const RunConfig& config, Findings& findings) {
  constexpr int kLeastWords = 4;  // three words and the end of a document
  const Data& data = config.data();
  const int vocab_size = config.model().vocab_size();
  // Sentinels are at most half of the input, so that most configs need no count.
  if (vocab_size < 1 || vocab_size >= int64_t{data.sequence_length()} + kLeastWords) return;
  const int64_t sentinels = num_sentinels(data);
  if (vocab_size >= kLeastWords + sentinels) return;
  if (sentinels == 0)
    findings.add("model.vocab_size ({}) must be at least {} with data.synthetic; raise it",
                 vocab_size, kLeastWords);
  else
    findings.add(
        "model.vocab_size ({}) must be at least {}: objective SPAN_CORRUPTION takes {} ids as the "
        "sentinels of {} tokens, and data.synthetic needs {} words; raise it, or lower "
        "data.sequence_length",
        vocab_size, kLeastWords + sentinels, sentinels, data.sequence_length(), kLeastWords);
}

void check_synthetic(const RunConfig& config, Findings& findings) {
  if (!config.data().has_synthetic()) return;
  if (config.data().synthetic().kind() == DOMAIN_BIGRAMS) {
    check_domains(config, findings);
    return;
  }
  check_vocabulary(config, findings);
  if (config.data().synthetic().has_num_domains())
    findings.add(
        "data.synthetic.num_domains ({}) is set, but kind NOISY_BIGRAMS has none; leave it out or "
        "set kind: DOMAIN_BIGRAMS",
        config.data().synthetic().num_domains());
}

// Sequences of one micro-batch over all ranks; 0 when a rule above is broken.
int micro_batch(const Train& train) {
  const bool divides = train.accumulation() > 0 && train.global_batch() > 0 &&
                       train.global_batch() % train.accumulation() == 0;
  return divides ? train.global_batch() / train.accumulation() : 0;
}

void check_batch(const RunConfig& config, int num_ranks, Findings& findings) {
  const Train& train = config.train();
  const int sequences = micro_batch(train);
  if (train.global_batch() > 0 && train.accumulation() > 0 && sequences == 0)
    findings.add("train.accumulation ({}) must divide train.global_batch ({}); change one of them",
                 train.accumulation(), train.global_batch());
  if (sequences == 0) return;
  const int ranks = std::max(1, num_ranks);
  if (sequences % ranks != 0) {
    findings.add(
        "train.global_batch ({}) / train.accumulation ({}) = {} must be divisible by the "
        "number of ranks ({}); change the batch or the number of ranks",
        train.global_batch(), train.accumulation(), sequences, ranks);
    return;
  }
  const int group = config.model().moe().capacity().group_sequences();
  if (config.model().has_moe() && group > 0 && sequences / ranks % group != 0)
    findings.add(
        "model.moe.capacity.group_sequences ({}) must divide the {} sequence(s) of a "
        "rank's micro-batch (global_batch {} / accumulation {} / ranks {}); change one of "
        "them",
        group, sequences / ranks, train.global_batch(), train.accumulation(), ranks);
}

void check_expert_degree(const RunConfig& config, int num_ranks, Findings& findings) {
  const int expert = config.mesh().expert();
  if (expert < 1) return;
  const int num_experts = config.model().moe().num_experts();
  if (!config.model().has_moe() && expert > 1)
    findings.add(
        "mesh.expert ({}) must be 1 or unset, as the model has no experts; remove it or "
        "set model.moe",
        expert);
  if (config.model().has_moe() && num_experts > 0 && num_experts % expert != 0)
    findings.add("mesh.expert ({}) must divide model.moe.num_experts ({}); choose a divisor",
                 expert, num_experts);
  if (num_ranks > 0 && num_ranks % expert != 0)
    findings.add(
        "mesh.expert ({}) must divide the number of ranks ({}); choose a divisor or start "
        "more ranks",
        expert, num_ranks);
}

void check_mesh(const RunConfig& config, int num_ranks, Findings& findings) {
  check_expert_degree(config, num_ranks, findings);
  const int data = config.mesh().data(), expert = config.mesh().expert();
  if (data < 1) return;
  if (num_ranks > 0 && data != num_ranks)
    findings.add(
        "mesh.data ({}) must equal the number of ranks ({}), as every rank takes its own "
        "share of the batch; leave it out to follow the ranks",
        data, num_ranks);
  if (num_ranks == 0 && expert > 0 && data % expert != 0)
    findings.add("mesh.expert ({}) must divide mesh.data ({}); change one of them", expert, data);
}

void check_log(const Log& log, Findings& findings) {
  if (log.every() > 0 && log.load_every() % log.every() != 0)
    findings.add(
        "log.load_every ({}) must be a multiple of log.every ({}), as the load stands in the log's "
        "records, or 0; change one of them",
        log.load_every(), log.every());
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
  check_name("name", config.name(), findings);
  check_file_path("output_dir", config.output_dir(), findings);
  if (config.has_init_from()) check_file_path("init_from", config.init_from(), findings);
  check_ranges(config, findings);
  check_model(config.model(), findings);
  check_architecture(config, findings);
  check_data(config.data(), findings);
  check_synthetic(config, findings);
  check_optimizer(config, findings);
  check_batch(config, num_ranks, findings);
  check_mesh(config, num_ranks, findings);
  check_log(config.log(), findings);
  check_sizes(config, findings);
  const std::vector<std::string> unused = unused_fields(config);
  findings.lines.insert(findings.lines.end(), unused.begin(), unused.end());
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
