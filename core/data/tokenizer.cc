#include "core/data/tokenizer.h"

#include "core/base/errors.h"
#include "core/base/fingerprint.h"
#include "core/base/foreign_text.h"
#include "core/io/file.h"

namespace switchyard {
namespace {

class ByteTokenizer final : public Tokenizer {
 public:
  int32_t vocab_size() const override { return 264; }
  int32_t end_of_document() const override { return 256; }

  std::vector<int32_t> encode(std::string_view text) const override {
    std::vector<int32_t> tokens(text.size());
    for (size_t i = 0; i < text.size(); ++i) tokens[i] = static_cast<uint8_t>(text[i]);
    return tokens;
  }

  std::string decode(std::span<const int32_t> tokens) const override {
    std::string text;
    for (const int32_t token : tokens) {
      SY_CHECK(token >= 0 && token < vocab_size(), "token {} of {}", token, vocab_size());
      if (token < 256) text.push_back(static_cast<char>(token));
    }
    return text;
  }

  std::string name() const override { return "bytes"; }
  uint64_t fingerprint() const override { return Fingerprint().add("bytes-264").value(); }
};

MappedFile open_model(const std::string& path) {
  try {
    return MappedFile(path);
  } catch (const StorageError& error) {
    throw DataError(
        fmt::format("{}; data.tokenizer must name a SentencePiece model ('switchyard tokenize TEXT "
                    "--tokenizer {} --vocab-size N' makes one) or be 'bytes'",
                    error.what(), path));
  }
}

}  // namespace

std::unique_ptr<Tokenizer> make_byte_tokenizer() { return std::make_unique<ByteTokenizer>(); }

std::unique_ptr<Tokenizer> load_tokenizer(const std::string& spec) {
  if (spec == "bytes") return make_byte_tokenizer();
  if (!spec.ends_with(".model"))
    throw DataError(
        fmt::format("tokenizer {}: expected 'bytes' or the path of a SentencePiece .model file",
                    in_quotes(spec)));
  const MappedFile model = open_model(spec);
  const auto bytes = model.bytes();
  return make_sentencepiece_tokenizer({reinterpret_cast<const char*>(bytes.data()), bytes.size()},
                                      spec);
}

}  // namespace switchyard
