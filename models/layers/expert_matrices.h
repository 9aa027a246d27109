#pragma once
// A stack of experts that are plain matrices: one each, for an attention's projections, or several
// with ReLU between, the baseline MoE-1-Deep (Shazeer et al., 2017, appendix C).

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "core/config/run_config.pb.h"
#include "core/tensor/parameter.h"
#include "parallel/communicator.h"

namespace switchyard::models {

// Says that a layer's experts are one matrix each, and not FFNs.
struct Projection {
  int64_t width = 0;  // rows; 0: FFNs
  double init_std = 0;
};

class ExpertMatrices {
 public:
  // y = W x. Registers <scope>.weight [E, width, d_model].
  ExpertMatrices(const Scope& scope, const config::Model& model, const Projection& projection);
  // y = W_n relu(... relu(W_0 x)), with moe.hidden_layers hidden layers of width d_ff. Registers
  // <scope>.layers.<i>.weight [E, out, in].
  ExpertMatrices(const Scope& scope, const config::Model& model);

  // rows [R, d_model] expert-major; offsets [e + 1] -> this rank's terms [R, width or d_model]. The
  // matrices are dealt over the `sharers` (null: there are none), where this is **collective**.
  at::Tensor forward(const at::Tensor& rows_RD, const std::vector<int64_t>& offsets,
                     parallel::Communicator* sharers = nullptr) const;

 private:
  std::vector<Parameter*> matrices_;  // [e, out, in], in the order of the products
};

}  // namespace switchyard::models
