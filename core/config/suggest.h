#pragma once
// "Did you mean": the nearest known name for a mistyped one.

#include <string>
#include <string_view>
#include <vector>

namespace switchyard::config {

// `; nearest: "num_experts"` for the one candidate that goes on from `name`, or that is near enough
// to be a typing mistake; `; one of: a, b, c` for several that go on, or for a short list; else
// nothing.
std::string suggestion(std::string_view name, const std::vector<std::string>& candidates);

}  // namespace switchyard::config
