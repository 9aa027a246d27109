// A SentencePiece model, then text through it.

#include "core/data/tokenizer.h"

#include <numeric>

#include "core/base/errors.h"
#include "tests/fuzz/target.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace switchyard;
  try {
    const auto tokenizer = make_sentencepiece_tokenizer(fuzz::as_text(data, size), "fuzz");
    for (const std::string_view text :
         {"", "plain words", "\xef\xbc\xa1\xcc\x88 \xff\xe2\x96\x81\n"}) {
      for (const int32_t token : tokenizer->encode(text)) {
        if (token < 0 || token >= tokenizer->vocab_size()) std::abort();
      }
    }
    std::vector<int32_t> all(tokenizer->vocab_size());
    std::iota(all.begin(), all.end(), 0);
    (void)tokenizer->decode(all);
  } catch (const DataError&) {
  }
  return 0;
}
