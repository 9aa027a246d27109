#pragma once
// Activation recompute: run a part of the model without saving its activations and run it again in
// backward.

#include <functional>
#include <vector>

#include <ATen/core/Tensor.h>

namespace switchyard {

// y = f(inputs), differentiable in each input (and, through Parameter::grad, in the parameters f
// uses). f runs once now without a graph and once more in backward. It must do the same operations
// both times on every rank: decisions that it takes (routing) are kept by the caller and reused. An
// undefined input reaches f undefined.
using Recomputed = std::function<at::Tensor(const std::vector<at::Tensor>& inputs)>;
at::Tensor recompute(const Recomputed& f, const std::vector<at::Tensor>& inputs);

}  // namespace switchyard
