#include <cstring>

#include "core/io/checksum.h"

#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

namespace switchyard {
namespace {

constexpr uint32_t kReversedPolynomial = 0x82F63B78;

constexpr std::array<uint32_t, 256> make_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? kReversedPolynomial : 0);
    table[i] = crc;
  }
  return table;
}

// Both take and return the register, which is the checksum inverted.
uint32_t update_by_table(uint32_t state, std::span<const std::byte> bytes) {
  static constexpr auto kTable = make_table();
  for (const std::byte byte : bytes)
    state = kTable[(state ^ static_cast<uint32_t>(byte)) & 0xFF] ^ (state >> 8);
  return state;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) uint32_t update_by_sse42(uint32_t state,
                                                           std::span<const std::byte> bytes) {
  uint64_t wide = state;
  while (bytes.size() >= sizeof(uint64_t)) {
    uint64_t word;
    std::memcpy(&word, bytes.data(), sizeof word);
    wide = _mm_crc32_u64(wide, word);
    bytes = bytes.subspan(sizeof word);
  }
  state = static_cast<uint32_t>(wide);
  for (const std::byte byte : bytes) state = _mm_crc32_u8(state, static_cast<uint8_t>(byte));
  return state;
}

bool has_instruction() { return __builtin_cpu_supports("sse4.2") != 0; }
#else
uint32_t update_by_sse42(uint32_t state, std::span<const std::byte>) { return state; }
bool has_instruction() { return false; }
#endif

}  // namespace

uint32_t crc32c(std::span<const std::byte> bytes, uint32_t so_far, ChecksumCode code) {
  const bool use_instruction = code == ChecksumCode::kFastest && has_instruction();
  return ~(use_instruction ? update_by_sse42(~so_far, bytes) : update_by_table(~so_far, bytes));
}

}  // namespace switchyard
