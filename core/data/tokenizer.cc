#include "core/data/tokenizer.h"

#include "core/base/errors.h"
#include "core/io/file.h"

namespace switchyard {

namespace {

MappedFile open_model(const std::string& path) {
  try {
    return MappedFile(path);
  } catch (const StorageError& error) {
    throw DataError(fmt::format(
        "{}; data.tokenizer must name a SentencePiece model ('switchyard tokenize TEXT --tokenizer "
        "{} --vocab-size N' makes one) or be 'bytes'",
        error.what(), path));
  }
}

}  // namespace

std::unique_ptr<Tokenizer> load_tokenizer(const std::string& spec) {
  if (spec == "bytes") return make_byte_tokenizer();
  if (!spec.ends_with(".model"))
    throw DataError(
        fmt::format("tokenizer '{}': expected 'bytes' or the path of a SentencePiece "
                    ".model file",
                    spec));
  const MappedFile model = open_model(spec);
  const auto bytes = model.bytes();
  return make_sentencepiece_tokenizer({reinterpret_cast<const char*>(bytes.data()), bytes.size()},
                                      spec);
}

}  // namespace switchyard
