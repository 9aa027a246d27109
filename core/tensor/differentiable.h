#pragma once
// How an operation with a hand-written gradient joins autograd's graph. Only differentiable.cc
// knows autograd's headers, which cost seconds in every file that includes them.

#include <functional>
#include <vector>

#include <ATen/core/Tensor.h>

namespace switchyard {

// Gradients of an operation's inputs, in their order, from the gradient of its output (never
// undefined). needs[i]: whether input i's gradient is asked for; others may be left undefined.
using Backward = std::function<std::vector<at::Tensor>(const at::Tensor& d_output,
                                                       const std::vector<bool>& needs)>;

// `output`, which the caller computed from detached inputs, as a function of `inputs`. What
// backward needs, it captures: it is kept only if some input requires a gradient, and freed as soon
// as it has run, once. It must not capture the output. Parameters are inputs by their `value` and
// accumulate their gradient in place, so their own entry stays undefined.
at::Tensor differentiable(const char* name, const std::vector<at::Tensor>& inputs,
                          const at::Tensor& output, Backward backward);

}  // namespace switchyard
