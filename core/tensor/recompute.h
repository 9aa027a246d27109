#pragma once
// Activation recompute: run a part of the model without saving its activations and run it again in
// backward.

#include <functional>

#include <ATen/core/Tensor.h>

namespace switchyard {

// y = f(x), differentiable in x (and, through Parameter::grad, in the parameters f uses). f runs
// once now without a graph and once more in backward. It must do the same operations both times on
// every rank: decisions that it takes (routing) are kept by the caller and reused.
at::Tensor recompute(const std::function<at::Tensor(const at::Tensor& x)>& f, const at::Tensor& x);

}  // namespace switchyard
