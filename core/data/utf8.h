#pragma once
// UTF-8 as the standard defines it: no surrogates, no overlong forms, nothing above U+10FFFF.

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace switchyard {

// Bytes of the longest prefix of `text` that is valid UTF-8.
size_t valid_utf8_prefix(std::string_view text);

// Bytes of `text` that belong to no valid character.
int64_t count_invalid_utf8(std::string_view text);

// The largest cut <= `limit` that does not fall inside a character. Requires limit <= text.size().
size_t utf8_cut(std::string_view text, size_t limit);

}  // namespace switchyard
