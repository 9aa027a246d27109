#include "models/layer.h"

#include "core/tensor/aten.h"
#include "core/tensor/differentiable.h"
#include "core/tensor/recompute.h"
#include "parallel/activity.h"

namespace switchyard::models {

namespace {

// Tells that the layer's backward begins, where the gradient passes.
at::Tensor with_mark(const at::Tensor& y_TD, int64_t number, parallel::Activity& activity) {
  const auto backward = [&activity, number](const at::Tensor& dy_TD, const std::vector<bool>&) {
    activity.enter_layer(number);
    return std::vector{dy_TD};
  };
  return differentiable("layer", {y_TD}, y_TD.detach(), backward);
}

}  // namespace

at::Tensor run_layer(const Layer& layer, int64_t number, const at::Tensor& x_TD, const Pass& pass,
                     LayerState* state) {
  parallel::Activity* activity = pass.context.activity;
  if (activity != nullptr) activity->enter_layer(number);
  const auto decision = std::make_shared<RoutingDecision>();  // lives until the layer's backward
  const auto run = [&layer, pass, decision](const std::vector<at::Tensor>& inputs) {
    Pass again = pass;
    again.memory_TD = inputs[1];
    return layer.forward(inputs[0], again, *decision, nullptr);
  };
  const at::Tensor y_TD = pass.recompute ? recompute(run, {x_TD, pass.memory_TD})
                                         : layer.forward(x_TD, pass, *decision, state);
  return activity != nullptr ? with_mark(y_TD, number, *activity) : y_TD;
}

}  // namespace switchyard::models
