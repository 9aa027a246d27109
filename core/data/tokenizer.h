#pragma once
// Text <-> token ids.

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace switchyard {

// Const members are thread-safe.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  virtual int32_t vocab_size() const = 0;
  // The id that ends every document. encode() never gives it.
  virtual int32_t end_of_document() const = 0;

  // Any bytes are legal: invalid UTF-8, NUL, a byte order mark. Adds no special tokens.
  virtual std::vector<int32_t> encode(std::string_view text) const = 0;
  // Special tokens become nothing. Requires ids in [0, vocab_size).
  virtual std::string decode(std::span<const int32_t> tokens) const = 0;

  // What data.tokenizer says for it: "bytes", or the path that its model was read from.
  virtual std::string name() const = 0;
  // Same fingerprint, same tokens; for refusing to resume with another tokenizer.
  virtual uint64_t fingerprint() const = 0;
};

// One token per byte: ids 0..255; 256 ends a document; 257..263 are never used and round the
// vocabulary up to 264, a multiple of 8.
std::unique_ptr<Tokenizer> make_byte_tokenizer();

// A SentencePiece model, as the bytes of its file; `name` is its path. DataError if it is
// damaged or has no end-of-sentence piece.
//
// A model with all 256 byte pieces and no added leading space (such as train_sentencepiece writes)
// gives back any input byte for byte, up to its own normalisation: bytes that are not UTF-8 and the
// space mark U+2581 go through byte pieces. Any other model replaces each invalid byte by U+FFFD,
// which TextReader counts.
std::unique_ptr<Tokenizer> make_sentencepiece_tokenizer(std::string_view model,
                                                        const std::string& name);

// "bytes", or the path of a SentencePiece `.model` file.
std::unique_ptr<Tokenizer> load_tokenizer(const std::string& spec);

}  // namespace switchyard
