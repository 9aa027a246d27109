#include "core/io/safetensors.h"

#include "core/base/errors.h"
#include "tests/fuzz/target.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace switchyard;
  const std::string_view text = fuzz::as_text(data, size);
  try {
    const auto header = parse_safetensors(std::as_bytes(std::span(text)), "fuzz");
    uint64_t end = 0;  // the tensors cover the data, in order
    for (const SafetensorsEntry& entry : header.entries) {
      if (entry.begin != end || entry.end < entry.begin) std::abort();
      end = entry.end;
    }
    if (header.data_begin + end != size) std::abort();
  } catch (const CheckpointError&) {
  }
  return 0;
}
