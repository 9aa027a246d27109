#pragma once
// A stack of experts that are one matrix each.

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "core/tensor/parameter.h"

namespace switchyard::models {

class ExpertLinear {
 public:
  struct Sizes {
    int64_t num_experts, out, in;
    double init_std;
  };
  // Registers <scope>.weight [E, out, in].
  ExpertLinear(const Scope& scope, const Sizes& sizes);
  // rows [R, in] expert-major; offsets [e + 1] -> [R, out].
  at::Tensor forward(const at::Tensor& rows_RD, const std::vector<int64_t>& offsets) const;

 private:
  Parameter& weight_;
};

}  // namespace switchyard::models
