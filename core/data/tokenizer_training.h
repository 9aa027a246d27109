#pragma once
// Trains a SentencePiece vocabulary on a sample of the user's own text.

#include <cstdint>
#include <string>
#include <vector>

#include "core/data/text_reader.h"

namespace switchyard {

struct SentencePieceOptions {
  int32_t vocab_size = 8192;
  bool byte_fallback = true;  // the model can then encode any bytes
};

// About `max_bytes` of text from all the files together: every document is kept or left out by a
// draw of its own (the same for the same files), then cut into lines.
std::vector<std::string> sample_lines(const std::vector<std::string>& paths, TextFormat format,
                                      int64_t max_bytes);

// A byte-pair model without normalisation or added spaces, so that decode(encode(text)) == text;
// digits are split, newline is a piece. The same lines give the same bytes of a `.model` file.
// DataError if the text is too small for the vocabulary. One thread (SentencePiece has no parallel
// byte-pair training), roughly 10 s per MB of text.
std::string train_sentencepiece(const std::vector<std::string>& lines,
                                const SentencePieceOptions& options);

}  // namespace switchyard
