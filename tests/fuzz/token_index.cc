// The first two bytes are the size of the .bin, the rest is the .idx.

#include "core/data/token_index.h"

#include "core/base/errors.h"
#include "tests/fuzz/target.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace switchyard;
  if (size < 2) return 0;
  const int64_t bin_bytes = data[0] + 256 * data[1];
  const fuzz::MemoryFile file(fuzz::as_text(data + 2, size - 2));
  try {
    const TokenIndex index(file.path(), bin_bytes);
    const int64_t last = index.num_documents();
    for (int64_t i = 0; i <= last; ++i) {
      const int64_t begin = index.document_begin(i);
      if (begin < 0 || begin > index.num_tokens()) std::abort();
    }
    if (index.num_tokens() * size_of(index.type()) > bin_bytes) std::abort();
  } catch (const DataError&) {
  }
  return 0;
}
