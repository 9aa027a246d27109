#include "models/moe/shared_expert.h"

#include "core/tensor/aten.h"
#include "models/layers/init.h"

namespace switchyard::models {

SharedExpert::SharedExpert(const Scope& scope, const config::Model& model)
    : ffn_(scope, model, model.moe().shared_expert().ffn(),
           int64_t{model.moe().shared_expert().count()} * model.moe().shared_expert().d_ff()) {
  if (model.moe().shared_expert().sigmoid_gate())
    gate_.emplace(scope, "gate", 1, model.d_model(), normal_init(model));
}

at::Tensor SharedExpert::forward(const at::Tensor& x_TD, const Rows& rows) const {
  const at::Tensor y_TD = rows.sum(ffn_.forward(rows.gather(x_TD)));
  return gate_ ? y_TD * gate_->forward(x_TD).sigmoid() : y_TD;
}

}  // namespace switchyard::models
