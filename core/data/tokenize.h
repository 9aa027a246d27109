#pragma once
// The `tokenize` job: text files -> one token file.

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/data/text_reader.h"
#include "core/data/tokenizer.h"

namespace switchyard {

struct TokenizeOptions {
  std::vector<std::string> inputs;
  std::optional<TextFormat> format{};  // unset: guessed for each file by its name
  int64_t max_document_bytes = 1 << 20;
  std::string out;  // prefix of the .bin, .idx and .meta.json
  // Share of the documents that goes to a second token file, held_out_prefix(out). A document's own
  // text decides, so that equal documents stay on one side whatever else is in the inputs. 0: none.
  double holdout = 0;
  int threads = 1;  // that encode; one more reads and writes
};

struct TokenizeResult {
  TextCounts text;
  int64_t tokens = 0;  // with one end-of-document token per document; those held out included
  int64_t held_out_documents = 0, held_out_tokens = 0;  // of the above
};

// "OUT_holdout"
std::string held_out_prefix(const std::string& out);

// Called on the calling thread, with bytes of the inputs.
using TokenizeProgress = std::function<void(int64_t done, int64_t total)>;

// Documents keep the order of the inputs, whatever `threads` is. Memory does not grow with the
// inputs, but for 4 bytes per document. DataError if there is no document at all, or, with a
// holdout, none on one of the two sides.
TokenizeResult tokenize(const TokenizeOptions& options, const Tokenizer& tokenizer,
                        const TokenizeProgress& progress);

}  // namespace switchyard
