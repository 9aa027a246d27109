// A checkpoint's manifest.json and COMMIT.

#include "trainer/checkpoint/manifest.h"
#include "core/base/errors.h"
#include "tests/fuzz/target.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace switchyard;
  const std::string_view text = fuzz::as_text(data, size);
  try {
    const std::string written = trainer::manifest_text(trainer::parse_manifest(text, "fuzz"));
    if (trainer::manifest_text(trainer::parse_manifest(written, "again")) != written) std::abort();
  } catch (const CheckpointError&) {
  }
  try {
    for (const auto& [name, digest] : trainer::parse_commit(text, "fuzz")) {
      if (name.empty() || digest.size() != 64) std::abort();
    }
  } catch (const CheckpointError&) {
  }
  return 0;
}
