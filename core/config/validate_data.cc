// Rules about what a run reads: names and paths, sources, tables and generated text.

#include <algorithm>
#include <cmath>
#include <map>
#include <string_view>

#include "core/base/foreign_text.h"
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
        "{} ({}) must be 1 to {} characters, without \"/\", \"..\" or control characters, and must "
        "not begin with \".\" or \"-\"; choose a plain name",
        path, in_quotes(name), kLongestName);
}

void check_file_path(const std::string& path, const std::string& value, Findings& findings) {
  if (value.empty() || value[0] == '-' || has_control(value))
    findings.add(
        "{} ({}) must be a path without control characters that does not begin with \"-\"; write "
        "./-name for such a file",
        path, in_quotes(value));
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
                     path, in_quotes(source.name()), first->second);
    }
    if (source.has_weight() && (!std::isfinite(source.weight()) || source.weight() <= 0))
      findings.add("{}.weight ({}) must be finite and above 0; leave out a source with no share",
                   path, source.weight());
  }
}

void check_lists(const Data& data, Findings& findings) {
  check_sources("data.train", data.train(), findings);
  check_sources("data.validation", data.validation(), findings);
  if (data.has_synthetic() && data.train_size() > 0)
    findings.add(
        "data.synthetic must not be set together with data.train ({} source(s)); leave one of them "
        "out",
        data.train_size());
  for (int i = 0; i < data.validation_size(); ++i)
    if (data.validation(i).has_weight())
      findings.add(
          "data.validation[{}].weight ({}) is set, but each validation source is evaluated by "
          "itself; leave it out",
          i, data.validation(i).weight());
  if (data.has_tokenizer()) check_file_path("data.tokenizer", data.tokenizer(), findings);
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

void check_table(const RunConfig& config, Findings& findings) {
  const Table& table = config.data().table();
  const Data& data = config.data();
  if (!data.has_table()) return;
  if (data.train_size() > 0 || data.validation_size() > 0)
    findings.add(
        "data.table must not be set together with data.train or data.validation; leave one of them "
        "out");
  if (config.model().d_model() != table.features_size())
    findings.add("model.d_model ({}) must be the number of data.table.features ({}) or unset",
                 config.model().d_model(), table.features_size());
  if (config.model().vocab_size() != table.classes_size())
    findings.add("model.vocab_size ({}) must be the number of data.table.classes ({}) or unset",
                 config.model().vocab_size(), table.classes_size());
}

}  // namespace

void check_data(const RunConfig& config, Findings& findings) {
  check_name("name", config.name(), findings);
  check_file_path("output_dir", config.output_dir(), findings);
  if (config.has_init_from()) check_file_path("init_from", config.init_from(), findings);
  check_lists(config.data(), findings);
  check_table(config, findings);
  if (config.data().synthetic().kind() == DOMAIN_BIGRAMS)
    check_domains(config, findings);
  else if (config.data().has_synthetic())
    check_vocabulary(config, findings);
}

}  // namespace switchyard::config
