#pragma once
// Strict JSON for files of unknown origin: duplicate keys (nlohmann keeps the last one silently),
// deep nesting, oversize input, bytes behind the value and NUL bytes are all refused.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

#include "core/io/raise.h"

namespace switchyard {

struct JsonLimits {
  uint64_t max_bytes = uint64_t{64} << 20;
  size_t max_depth = 16;  // objects and arrays inside one another
};

// `where` (a path, or path:line) begins every message; failures are thrown through `raise`.
[[nodiscard]] nlohmann::json parse_json(std::string_view text, const std::string& where,
                                        RaiseError raise, const JsonLimits& limits = {});

}  // namespace switchyard
