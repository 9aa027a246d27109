#pragma once
// CRC-32C of each block of a stream, so that a reader of some blocks need not read the others.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "core/io/checksum.h"

namespace switchyard {

class BlockChecksums {
 public:
  explicit BlockChecksums(uint64_t block_bytes) : block_bytes_(block_bytes) {}

  void add(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const auto part = bytes.first(std::min<uint64_t>(bytes.size(), block_bytes_ - filled_));
      current_ = crc32c(part, current_);
      filled_ += part.size();
      if (filled_ == block_bytes_) end_block();
      bytes = bytes.subspan(part.size());
    }
  }

  // The checksums of all blocks, the last of which may be shorter; the object is used up.
  std::vector<uint32_t> finish() {
    if (filled_ > 0) end_block();
    return std::move(done_);
  }

 private:
  void end_block() {
    done_.push_back(std::exchange(current_, 0));
    filled_ = 0;
  }

  uint64_t block_bytes_;
  uint64_t filled_ = 0;  // bytes of the present block so far
  uint32_t current_ = 0;
  std::vector<uint32_t> done_;
};

}  // namespace switchyard
