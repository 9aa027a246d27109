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
  int threads = 1;  // that encode; one more reads and writes
};

struct TokenizeResult {
  TextCounts text;
  int64_t tokens = 0;  // with one end-of-document token per document
};

// Called on the calling thread, with bytes of the inputs.
using TokenizeProgress = std::function<void(int64_t done, int64_t total)>;

// Documents keep the order of the inputs, whatever `threads` is. Memory does not grow with the
// inputs, but for 4 bytes per document. DataError if there is no document at all.
TokenizeResult tokenize(const TokenizeOptions& options, const Tokenizer& tokenizer,
                        const TokenizeProgress& progress);

}  // namespace switchyard
