#pragma once
// Pairs of texts, such as translations, as a source of fixed-size records.

#include <memory>

#include "core/data/batch_maker.h"
#include "core/data/token_file.h"

namespace switchyard {

struct PairLengths {
  int64_t source = 0, target = 0;  // tokens, the end token included
  int64_t record() const { return source + target; }
};

// A token file whose documents alternate, source text and target text. Pair i is the record of
// tokens [i * record, (i + 1) * record): both texts, each cut to its length or filled up with the
// end token.
class PairSource final : public TokenSource {
 public:
  // DataError for an odd number of documents or none. `end` is the token that ends each document.
  PairSource(std::shared_ptr<const TokenFile> file, const PairLengths& lengths, int32_t end);

  std::string name() const override { return file_->name(); }
  int64_t num_tokens() const override { return file_->num_documents() / 2 * lengths_.record(); }
  int64_t num_sampled() const override { return num_tokens(); }
  // Requires whole records.
  void read(int64_t first, std::span<int32_t> tokens) const override;
  void segments(int64_t first, std::span<int32_t> numbers) const override;
  uint64_t fingerprint() const override;

 private:
  void read_document(int64_t document, std::span<int32_t> tokens) const;

  std::shared_ptr<const TokenFile> file_;
  PairLengths lengths_;
  int32_t end_;
};

// Rows of a PairSource: the row's `source` is the first text, `targets` the second.
std::shared_ptr<const BatchMaker> pair_batches(const PairLengths& lengths, int32_t end);

}  // namespace switchyard
