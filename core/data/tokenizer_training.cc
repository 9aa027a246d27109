#include "core/data/tokenizer_training.h"

#include <algorithm>

#include <sentencepiece_trainer.h>

#include "core/base/errors.h"
#include "core/base/random.h"
#include "core/data/utf8.h"

namespace switchyard {
namespace {

constexpr size_t kMaxLine = 4096;  // SentencePiece drops longer lines

class LineIterator final : public sentencepiece::SentenceIterator {
 public:
  explicit LineIterator(const std::vector<std::string>& lines) : lines_(lines) {}
  bool done() const override { return at_ == lines_.size(); }
  void Next() override { ++at_; }
  const std::string& value() const override { return lines_[at_]; }
  sentencepiece::util::Status status() const override { return {}; }

 private:
  const std::vector<std::string>& lines_;
  size_t at_ = 0;
};

void append_lines(std::string_view document, std::vector<std::string>& lines) {
  while (!document.empty()) {
    const size_t line = std::min(document.find('\n'), document.size());
    const size_t size = line > kMaxLine ? utf8_cut(document, kMaxLine) : line;
    if (size > 0) lines.emplace_back(document.substr(0, size));
    document.remove_prefix(std::min(document.size(), size == line ? size + 1 : size));
  }
}

}  // namespace

std::vector<std::string> sample_lines(const std::vector<std::string>& paths, TextFormat format,
                                      int64_t max_bytes) {
  int64_t total = 0;
  for (const std::string& path : paths) total += file_size(path);
  const double share =
      static_cast<double>(max_bytes) / static_cast<double>(std::max<int64_t>(1, total));
  const Random random(0, Stream::kShuffle);
  std::vector<std::string> lines;
  uint64_t document_number = 0;
  std::string document;
  for (const std::string& path : paths) {
    TextReader reader(path, {.format = format});
    while (reader.next(document))
      if (random.uniform(document_number++) < share) append_lines(document, lines);
  }
  return lines;
}

std::string train_sentencepiece(const std::vector<std::string>& lines,
                                const SentencePieceOptions& options) {
  LineIterator iterator(lines);
  std::string model;
  const auto status = sentencepiece::SentencePieceTrainer::Train(
      {{"model_type", "bpe"},
       {"vocab_size", std::to_string(options.vocab_size)},
       {"byte_fallback", options.byte_fallback ? "true" : "false"},
       {"num_threads", "1"},  // a part of the model's bytes
       {"character_coverage", "0.9995"},
       {"normalization_rule_name", "identity"},
       {"add_dummy_prefix", "false"},
       {"remove_extra_whitespaces", "false"},
       {"split_digits", "true"},
       {"user_defined_symbols", "\n"},
       {"max_sentence_length", std::to_string(kMaxLine + 1)},
       {"minloglevel", "3"}},  // else it logs every merge to stderr
      &iterator, &model);
  if (!status.ok())
    throw DataError(fmt::format(
        "cannot train a vocabulary of {} on {} lines: {}; give more text or a smaller vocabulary",
        options.vocab_size, lines.size(), status.ToString()));
  return model;
}

}  // namespace switchyard
