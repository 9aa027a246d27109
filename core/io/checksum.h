#pragma once
// CRC-32C per tensor and record (finds accidents, fast enough for every load) and SHA-256 per file
// (names the content).

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

struct evp_md_ctx_st;  // OpenSSL's EVP_MD_CTX

namespace switchyard {

// Which code computes a CRC. The portable one is the reference for the other and the fallback where
// the CPU has no instructions for it.
enum class ChecksumCode { kFastest, kPortable };

// CRC-32C (Castagnoli; RFC 3720 appendix B.4). To go on over several pieces, pass the value so far.
[[nodiscard]] uint32_t crc32c(std::span<const std::byte> bytes, uint32_t so_far = 0,
                              ChecksumCode code = ChecksumCode::kFastest);

using Sha256Digest = std::array<uint8_t, 32>;

// SHA-256 (FIPS 180-4) over a stream of pieces, by OpenSSL.
class Sha256 {
 public:
  Sha256();

  void update(std::span<const std::byte> bytes);
  // The digest of everything so far; the object is used up.
  [[nodiscard]] Sha256Digest finish();

 private:
  std::unique_ptr<evp_md_ctx_st, void (*)(evp_md_ctx_st*)> context_;
};

// Lower-case hexadecimal, 64 characters.
[[nodiscard]] std::string to_hex(const Sha256Digest& digest);
// The SHA-256 of the bytes, in such text.
[[nodiscard]] std::string sha256_hex(std::span<const std::byte> bytes);

}  // namespace switchyard
