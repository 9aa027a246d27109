#pragma once
// How an operation with a hand-written gradient joins autograd's graph. Only differentiable.cc
// knows autograd's headers, which cost seconds in every file that includes them.

#include <cstdint>
#include <functional>
#include <vector>

#include <ATen/core/Tensor.h>

#include "core/tensor/parameter.h"

namespace switchyard {

// Gradients of an operation's inputs, in their order, from the gradient of its output (never
// undefined). needs[i]: whether input i's gradient is asked for; others may be left undefined.
// After the inputs, needs has an entry for each parameter: whether backward shall add to its
// `grad`.
using Backward = std::function<std::vector<at::Tensor>(const at::Tensor& d_output,
                                                       const std::vector<bool>& needs)>;

// `output`, which the caller computed from detached inputs, as a function of `inputs` and of the
// parameters. What backward needs, it captures: it is kept only if something requires a gradient,
// and freed as soon as it has run, once. It must not capture the output. The parameters' sink is
// told of the contribution that backward will make, and when it was made.
at::Tensor differentiable(const char* name, const std::vector<at::Tensor>& inputs,
                          const std::vector<Parameter*>& parameters, const at::Tensor& output,
                          Backward backward);
// differentiable() of an operation without parameters.
at::Tensor differentiable(const char* name, const std::vector<at::Tensor>& inputs,
                          const at::Tensor& output, Backward backward);

// Which uses of parameters are announced to the sink. What recompute() runs twice is announced in
// the first run, though that has no graph, so that a parameter with other uses is not complete
// before all of them have contributed; and not once more in the second.
enum class Announce : uint8_t { kWithGraph, kAlways, kNever };

// While it lives, `uses` holds for the calling thread; kNever also for all guards within it.
class AnnounceGuard {
 public:
  explicit AnnounceGuard(Announce uses);
  ~AnnounceGuard();
  AnnounceGuard(const AnnounceGuard&) = delete;
  AnnounceGuard& operator=(const AnnounceGuard&) = delete;

 private:
  Announce before_;
};

}  // namespace switchyard
