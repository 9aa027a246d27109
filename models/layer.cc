#include "models/layer.h"

#include "core/tensor/aten.h"
#include "core/tensor/recompute.h"

namespace switchyard::models {

at::Tensor run_layer(const Layer& layer, const at::Tensor& x_TD, const Pass& pass,
                     LayerState* state) {
  const auto decision = std::make_shared<RoutingDecision>();  // lives until the layer's backward
  if (!pass.recompute) return layer.forward(x_TD, pass, *decision, state);
  const auto run = [&layer, pass, decision](const std::vector<at::Tensor>& inputs) {
    Pass again = pass;
    again.memory_TD = inputs[1];
    return layer.forward(inputs[0], again, *decision, nullptr);
  };
  return recompute(run, {x_TD, pass.memory_TD});
}

}  // namespace switchyard::models
