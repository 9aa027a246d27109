#include "trainer/data_sources.h"

#include "core/base/errors.h"
#include "core/base/log.h"
#include "core/data/domain_bigrams.h"
#include "core/data/pair_source.h"
#include "core/data/span_corruption.h"
#include "core/data/synthetic_source.h"
#include "core/data/table.h"
#include "core/data/token_file.h"
#include "parallel/agreement.h"

namespace switchyard::trainer {
namespace {

SpanCorruption spans_of(const config::Data& data) {
  return {data.spans().density(), data.spans().mean_length()};
}

// Ids at the end of the vocabulary that stand for hidden spans.
int32_t num_sentinels(const config::RunConfig& config) {
  const config::Data& data = config.data();
  if (data.objective() != config::SPAN_CORRUPTION) return 0;
  return static_cast<int32_t>(fit_input(data.sequence_length(), spans_of(data)).spans);
}

// Generated text leaves the sentinels alone; its last word ends a document.
int32_t synthetic_words(const config::RunConfig& config) {
  return config.model().vocab_size() - num_sentinels(config);
}

// Part 0 of the endless walk is for training, part 1 for validation: the same language, other text.
std::shared_ptr<const TokenSource> synthetic(const config::RunConfig& config, int64_t part) {
  const config::Synthetic& options = config.data().synthetic();
  const int64_t tokens = options.num_tokens();
  if (options.kind() == config::DOMAIN_BIGRAMS) {
    const DomainLanguage language{config.model().vocab_size() - options.num_domains(),
                                  options.num_domains(), options.seed()};
    return std::make_shared<DomainBigrams>(language, config.data().sequence_length() + 1, tokens,
                                           part * tokens);
  }
  return std::make_shared<SyntheticSource>(tokens, synthetic_words(config), options.seed(),
                                           part * tokens);
}

PairLengths pair_lengths(const config::Data& data) {
  return {data.sequence_length(), data.target_length()};
}

SpecialTokens special_tokens(const config::RunConfig& config, const Tokenizer* tokenizer) {
  const int32_t vocabulary = config.model().vocab_size();
  const int32_t words = tokenizer ? tokenizer->vocab_size() : synthetic_words(config);
  const int32_t sentinels = num_sentinels(config);
  if (words + sentinels > vocabulary)
    throw ConfigError(fmt::format(
        "model.vocab_size ({}) must be at least {}: the {} tokens of data.tokenizer \"{}\" and {} "
        "sentinels for the hidden spans of {} tokens; raise it",
        vocabulary, words + sentinels, words, config.data().tokenizer(), sentinels,
        config.data().sequence_length()));
  return {tokenizer ? tokenizer->end_of_document() : words - 1, vocabulary - 1};
}

std::shared_ptr<const BatchMaker> text_batches(const config::RunConfig& config,
                                               const Tokenizer* tokenizer) {
  const config::Data& data = config.data();
  switch (data.objective()) {
    case config::SPAN_CORRUPTION:
      return span_corruption_batches(data.sequence_length(), spans_of(data),
                                     special_tokens(config, tokenizer), config.seed());
    case config::TRANSLATION:
      return pair_batches(pair_lengths(data), special_tokens(config, tokenizer).end);
    default:
      return data.synthetic().kind() == config::DOMAIN_BIGRAMS
                 ? domain_batches(data.sequence_length())
                 : next_token_batches(data.sequence_length(), data.attend_across_documents());
  }
}

void check_made_with(const TokenFile& file, const Tokenizer& tokenizer) {
  if (!file.meta()) {
    warn("{}: there is no {}; taken to be made with data.tokenizer \"{}\"", file.name(),
         token_file_meta_path(file.name()), tokenizer.name());
    return;
  }
  if (file.meta()->tokenizer_fingerprint != tokenizer.fingerprint())
    throw DataError(
        fmt::format("{}: was made with the tokenizer \"{}\" (fingerprint {:016x}), and "
                    "data.tokenizer is \"{}\" "
                    "({:016x}); tokenize the text with this one, or train with that one",
                    file.name(), file.meta()->tokenizer, file.meta()->tokenizer_fingerprint,
                    tokenizer.name(), tokenizer.fingerprint()));
}

RunData open_table(const config::RunConfig& config) {
  const config::Table& options = config.data().table();
  const TableColumns columns{{options.features().begin(), options.features().end()},
                             options.label(),
                             {options.classes().begin(), options.classes().end()},
                             options.group()};
  auto table = std::make_shared<Table>(read_table(options.path(), columns));
  const TableSplit split =
      split_by_group(*table, options.train_groups(), options.test_groups(), options.split_seed());
  standardize(*table, split.train);
  const auto side = [&](const char* name, const std::vector<int32_t>& cases) {
    return std::make_shared<CaseSource>(name, cases, table->fingerprint);
  };
  const auto train = side("train", split.train);
  RunData data{case_batches(table), {{train, 1.0}}, {{"train", train}}};
  if (!split.test.empty()) data.validation.push_back({"test", side("test", split.test)});
  return data;
}

std::shared_ptr<const Tokenizer> open_tokenizer(const config::RunConfig& config) {
  if (!reads_text(config)) return nullptr;
  auto tokenizer = load_tokenizer(config.data().tokenizer());
  if (tokenizer->vocab_size() > config.model().vocab_size())
    throw ConfigError(fmt::format(
        "model.vocab_size ({}) must be at least the {} tokens of data.tokenizer \"{}\"; raise it",
        config.model().vocab_size(), tokenizer->vocab_size(), config.data().tokenizer()));
  return tokenizer;
}

}  // namespace

config::RunConfig with_tokenizer(config::RunConfig config) {
  config::Data& data = *config.mutable_data();
  if (!reads_text(config) || data.has_tokenizer()) return config;
  const std::string& prefix = data.train(0).path();
  require_token_file(prefix);
  const auto meta = read_token_file_meta(prefix);
  if (!meta)
    throw DataError(fmt::format(
        "{}: there is no {} that says which tokenizer made it; set data.tokenizer to that "
        "tokenizer, or to \"none\" to train on the ids as they are",
        prefix, token_file_meta_path(prefix)));
  data.set_tokenizer(meta->tokenizer);
  return config;
}

bool reads_text(const config::RunConfig& config) {
  return !config.data().has_synthetic() && !config.data().has_table() &&
         config.data().tokenizer() != "none";
}

RunData open_data(const config::RunConfig& config, const Tokenizer* tokenizer) {
  if (config.data().has_table()) return open_table(config);
  RunData data{text_batches(config, tokenizer), {}, {}};
  if (config.data().has_synthetic()) {
    data.train.push_back({synthetic(config, 0), 1.0});
    data.validation.push_back({"synthetic", synthetic(config, 1)});
  }
  for (const auto& source : config.data().train())
    data.train.push_back({open_source(config, tokenizer, source.path()), source.weight()});
  for (const auto& source : config.data().validation())
    data.validation.push_back({source.name(), open_source(config, tokenizer, source.path())});
  return data;
}

RunData open_training_data(const config::RunConfig& config, parallel::Communicator& world) {
  const auto tokenizer =
      parallel::make_on_all(world, "open tokenizer", [&] { return open_tokenizer(config); });
  RunData data =
      parallel::make_on_all(world, "open data", [&] { return open_data(config, tokenizer.get()); });
  data.tokenizer = tokenizer;
  return data;
}

std::shared_ptr<const TokenSource> open_source(const config::RunConfig& config,
                                               const Tokenizer* tokenizer,
                                               const std::string& path) {
  auto file = TokenFile::open(path, config.model().vocab_size());
  if (tokenizer) check_made_with(*file, *tokenizer);
  if (config.data().objective() != config::TRANSLATION) return file;
  return std::make_shared<PairSource>(file, pair_lengths(config.data()),
                                      special_tokens(config, tokenizer).end);
}

}  // namespace switchyard::trainer
