#include "core/data/utf8.h"

#include <cstring>

namespace switchyard {
namespace {

// Bytes of the valid character that starts at text[at]; 0 if there is none. The bounds on the
// second byte are those of table 3-7 of the Unicode standard.
size_t character_size(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[at + i]); };
  const auto continues = [&](size_t i, uint8_t low, uint8_t high) {
    return at + i < text.size() && byte(i) >= low && byte(i) <= high;
  };
  const uint8_t lead = byte(0);
  if (lead < 0x80) return 1;
  if (lead >= 0xC2 && lead <= 0xDF) return continues(1, 0x80, 0xBF) ? 2 : 0;
  if (lead >= 0xE0 && lead <= 0xEF) {
    const uint8_t low = lead == 0xE0 ? 0xA0 : 0x80, high = lead == 0xED ? 0x9F : 0xBF;
    return continues(1, low, high) && continues(2, 0x80, 0xBF) ? 3 : 0;
  }
  if (lead >= 0xF0 && lead <= 0xF4) {
    const uint8_t low = lead == 0xF0 ? 0x90 : 0x80, high = lead == 0xF4 ? 0x8F : 0xBF;
    const bool valid =
        continues(1, low, high) && continues(2, 0x80, 0xBF) && continues(3, 0x80, 0xBF);
    return valid ? 4 : 0;
  }
  return 0;
}

}  // namespace

size_t valid_utf8_prefix(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    uint64_t word;
    if (at + sizeof word <= text.size()) {  // eight ASCII bytes at once
      std::memcpy(&word, text.data() + at, sizeof word);
      if ((word & 0x8080808080808080u) == 0) {
        at += sizeof word;
        continue;
      }
    }
    const size_t size = character_size(text, at);
    if (size == 0) break;
    at += size;
  }
  return at;
}

int64_t count_invalid_utf8(std::string_view text) {
  int64_t invalid = 0;
  for (;;) {
    text.remove_prefix(valid_utf8_prefix(text));
    if (text.empty()) return invalid;
    ++invalid;
    text.remove_prefix(1);
  }
}

size_t utf8_cut(std::string_view text, size_t limit) {
  if (limit == text.size()) return limit;
  for (size_t back = 0; back < 4 && back < limit; ++back) {
    const bool continuation = (static_cast<uint8_t>(text[limit - back]) & 0xC0) == 0x80;
    if (!continuation) return limit - back;
  }
  return limit;  // not UTF-8 here: any cut will do
}

}  // namespace switchyard
