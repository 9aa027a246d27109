#include "core/tensor/recompute.h"

#include <torch/csrc/autograd/autograd.h>

#include "core/tensor/differentiable.h"

namespace switchyard {
namespace {

std::vector<at::Tensor> detached(const std::vector<at::Tensor>& tensors) {
  std::vector<at::Tensor> result;
  for (const at::Tensor& x : tensors) result.push_back(x.defined() ? x.detach() : x);
  return result;
}

// The gradients of f's inputs, in their order.
std::vector<at::Tensor> run_again(const Recomputed& f, const std::vector<at::Tensor>& saved,
                                  const at::Tensor& dy, const std::vector<bool>& needs) {
  const std::vector<at::Tensor> inputs = detached(saved);
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (needs[i]) inputs[i].set_requires_grad(true);
  }
  at::AutoGradMode gradients_on(true);
  const at::Tensor y = [&] {
    const AnnounceGuard announced_before(Announce::kNever);
    return f(inputs);
  }();
  if (y.requires_grad()) torch::autograd::backward({y}, {dy});
  std::vector<at::Tensor> gradients;
  for (const at::Tensor& x : inputs) gradients.push_back(x.defined() ? x.grad() : x);
  return gradients;
}

}  // namespace

at::Tensor recompute(const Recomputed& f, const std::vector<at::Tensor>& inputs) {
  if (!at::GradMode::is_enabled()) return f(inputs);
  const auto backward = [f, saved = detached(inputs)](const at::Tensor& dy,
                                                      const std::vector<bool>& needs) {
    std::vector<at::Tensor> gradients = run_again(f, saved, dy, needs);
    gradients.emplace_back();  // the anchor has none
    return gradients;
  };
  at::Tensor y;
  {
    const at::NoGradGuard no_graph;
    const AnnounceGuard announce_for_backward(Announce::kAlways);
    y = f(detached(inputs));
  }
  // The anchor requires a gradient even when no input does, so that backward reaches the
  // parameters.
  std::vector<at::Tensor> with_anchor = inputs;
  with_anchor.push_back(at::empty({0}).set_requires_grad(true));
  return differentiable("recompute", with_anchor, y, backward);
}

}  // namespace switchyard
