#include "core/tensor/recompute.h"

#include <torch/csrc/autograd/autograd.h>

#include "core/tensor/differentiable.h"

namespace switchyard {

at::Tensor recompute(const std::function<at::Tensor(const at::Tensor& x)>& f, const at::Tensor& x) {
  if (!at::GradMode::is_enabled()) return f(x);
  // Requires a gradient even when x does not, so that backward reaches the parameters.
  const at::Tensor anchor = at::empty({0}).set_requires_grad(true);
  const auto backward = [f, saved = x.detach()](const at::Tensor& dy,
                                                const std::vector<bool>& needs) {
    const at::Tensor again = saved.detach().set_requires_grad(needs[0]);
    at::AutoGradMode gradients_on(true);
    const at::Tensor y = [&] {
      const AnnounceGuard announced_before(Announce::kNever);
      return f(again);
    }();
    if (y.requires_grad()) torch::autograd::backward({y}, {dy});
    return std::vector{again.grad(), at::Tensor()};
  };
  at::Tensor y;
  {
    const at::NoGradGuard no_graph;
    const AnnounceGuard announce_for_backward(Announce::kAlways);
    y = f(x.detach());
  }
  return differentiable("recompute", {x, anchor}, y, backward);
}

}  // namespace switchyard
