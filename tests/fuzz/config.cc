#include "core/base/errors.h"
#include "core/config/print.h"
#include "core/config/reader.h"
#include "tests/fuzz/target.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace switchyard;
  try {
    const config::RunConfig run = config::load_config_text(fuzz::as_text(data, size), "fuzz");
    // What was resolved stands for itself.
    const std::string text = config::to_text(run);
    if (config::to_text(config::load_config_text(text, "again")) != text) std::abort();
  } catch (const ConfigError&) {
  }
  return 0;
}
