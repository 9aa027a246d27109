#include <fmt/format.h>
#include <fmt/ranges.h>
#include <openssl/evp.h>

#include "core/base/errors.h"
#include "core/io/checksum.h"

namespace switchyard {

Sha256::Sha256() : context_(EVP_MD_CTX_new(), EVP_MD_CTX_free) {
  SY_CHECK(context_ && EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) == 1,
           "OpenSSL gave no SHA-256");
}

void Sha256::update(std::span<const std::byte> bytes) {
  SY_CHECK(EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size()) == 1,
           "OpenSSL took no {} bytes into a SHA-256", bytes.size());
}

Sha256Digest Sha256::finish() {
  Sha256Digest digest;
  SY_CHECK(EVP_DigestFinal_ex(context_.get(), digest.data(), nullptr) == 1,
           "OpenSSL finished no SHA-256");
  return digest;
}

std::string to_hex(const Sha256Digest& digest) {
  return fmt::format("{:02x}", fmt::join(digest, ""));
}

std::string sha256_hex(std::span<const std::byte> bytes) {
  Sha256 hash;
  hash.update(bytes);
  return to_hex(hash.finish());
}

}  // namespace switchyard
