#include "core/tensor/flags.h"

#include "core/tensor/aten.h"

namespace switchyard {

std::vector<uint8_t> flags_of(const at::Tensor& mask) {
  const at::Tensor bytes = mask.ne(0).to(at::kByte).contiguous();
  const auto* first = bytes.const_data_ptr<uint8_t>();
  return {first, first + bytes.numel()};
}

}  // namespace switchyard
