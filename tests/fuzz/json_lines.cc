// Text as JSON lines, a document each.

#include "core/base/errors.h"
#include "core/data/text_reader.h"
#include "tests/fuzz/target.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace switchyard;
  const fuzz::MemoryFile file(fuzz::as_text(data, size));
  try {
    TextReader reader(file.path(), {.format = TextFormat::kJsonLines, .max_document_bytes = 64});
    for (std::string document; reader.next(document);) {
      if (document.empty() || document.size() > 64) std::abort();
    }
    if (reader.position() != static_cast<int64_t>(size)) std::abort();
  } catch (const DataError&) {
  }
  return 0;
}
