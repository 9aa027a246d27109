#pragma once
// Masks as plain bytes, for loops that look at one token after another.

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

namespace switchyard {

// 1 where a tensor of any shape and type is not 0, else 0.
std::vector<uint8_t> flags_of(const at::Tensor& mask);

}  // namespace switchyard
