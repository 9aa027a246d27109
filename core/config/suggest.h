#pragma once
// "Did you mean": the nearest known name for a mistyped one, and names made safe to print.

#include <string>
#include <string_view>
#include <vector>

namespace switchyard::config {

// Edits (insert, delete, replace, swap of neighbours) that turn a into b.
int edit_distance(std::string_view a, std::string_view b);

// `; nearest: "num_experts"` for the one candidate that goes on from `name`, or that is near enough
// to be a typing mistake; `; one of: a, b, c` for several that go on, or for a short list; else
// nothing.
std::string suggestion(std::string_view name, const std::vector<std::string>& candidates);

// In double quotes, control characters and bytes outside ASCII as \xNN, cut after 60 bytes: input
// that is echoed cannot break a line of the message or the terminal.
std::string quote(std::string_view text);

}  // namespace switchyard::config
