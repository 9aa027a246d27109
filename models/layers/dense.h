#pragma once
// A matrix that multiplies rows, and its bias: the place where layers outside experts make their
// products, but for routers and the gate of 1991, which say why they do not. FFNs are an operation
// of their own, which keeps less for backward (core/tensor/ops.h).

#include <cstdint>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "core/tensor/parameter.h"

namespace switchyard::models {

class Dense {
 public:
  // Registers <scope>.<name> [out, in].
  Dense(const Scope& scope, const std::string& name, int64_t out, int64_t in, const Init& init);
  // Registers several matrices as one, each a part of the rows, so that one product serves them
  // all. With `bias`, registers <scope>.<bias> [out], which starts at 0, too.
  Dense(const Scope& scope, const std::string& name, const std::vector<Part>& rows, int64_t in,
        const std::string& bias = {});

  // x [..., in] in the compute type -> [..., out], differentiable.
  at::Tensor forward(const at::Tensor& x) const;

 private:
  Parameter* weight_;
  Parameter* bias_ = nullptr;
};

}  // namespace switchyard::models
