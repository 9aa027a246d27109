#pragma once
// 64-bit FNV-1a: tells whether a tokenizer or a data set is the one a run began with, and numbers
// the random streams of parameters by their names. Not a defence against forgery, and not a
// checksum of all the bytes of a large file. Part of the reproducibility contract.

#include <cstdint>
#include <string_view>

namespace switchyard {

class Fingerprint {
 public:
  Fingerprint& add(std::string_view bytes) {
    for (const char c : bytes) value_ = (value_ ^ static_cast<uint8_t>(c)) * 0x100000001B3u;
    return *this;
  }
  // Eight little-endian bytes, whatever the machine.
  Fingerprint& add(uint64_t number) {
    for (int shift = 0; shift < 64; shift += 8)
      value_ = (value_ ^ (number >> shift & 0xFF)) * 0x100000001B3u;
    return *this;
  }
  uint64_t value() const { return value_; }

 private:
  uint64_t value_ = 0xCBF29CE484222325u;
};

}  // namespace switchyard
