#include "models/layers/dense.h"

#include "core/tensor/aten.h"
#include "core/tensor/ops.h"

namespace switchyard::models {
namespace {

std::vector<Part> starting_at_zero(std::vector<Part> parts) {
  for (Part& part : parts) part.init = {Init::kConstant, 0};
  return parts;
}

}  // namespace

Dense::Dense(const Scope& scope, const std::string& name, int64_t out, int64_t in, const Init& init)
    : Dense(scope, name, {{"", out, init}}, in) {}

Dense::Dense(const Scope& scope, const std::string& name, const std::vector<Part>& rows, int64_t in,
             const std::string& bias)
    : weight_(&scope.matrix(name, rows, in)) {
  if (!bias.empty()) bias_ = &scope.vector(bias, starting_at_zero(rows), Use::kShift);
}

at::Tensor Dense::forward(const at::Tensor& x) const {
  const at::Tensor y = linear(x, *weight_);
  return bias_ ? y + use(*bias_, x.scalar_type()) : y;
}

}  // namespace switchyard::models
