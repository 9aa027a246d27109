#include "core/tensor/recompute.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

namespace switchyard {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using Part = std::function<at::Tensor(const at::Tensor& x, bool again)>;

// Carries the function in autograd's context.
struct PartHolder : torch::CustomClassHolder {
  explicit PartHolder(Part f) : part(std::move(f)) {}
  Part part;
};

struct Recompute : torch::autograd::Function<Recompute> {
  // `anchor` requires a gradient even when x does not, so that backward reaches the parameters.
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& anchor,
                            const Part& part) {
    context->saved_data["part"] = c10::IValue::make_capsule(c10::make_intrusive<PartHolder>(part));
    context->saved_data["x_requires_grad"] = x.requires_grad();
    context->save_for_backward({x});
    return part(x.detach(), /*again=*/false);  // gradients are off in here
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const auto holder =
        c10::static_intrusive_pointer_cast<PartHolder>(context->saved_data["part"].toCapsule());
    at::Tensor x = context->get_saved_variables()[0].detach();
    x.set_requires_grad(context->saved_data["x_requires_grad"].toBool());
    {
      at::AutoGradMode gradients_on(true);
      const at::Tensor y = holder->part(x, /*again=*/true);
      if (y.requires_grad()) torch::autograd::backward({y}, {gradients[0]});
    }
    return {x.grad(), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor recompute(const Part& f, const at::Tensor& x) {
  if (!at::GradMode::is_enabled()) return f(x, /*again=*/false);
  const at::Tensor anchor = at::empty({0}).set_requires_grad(true);
  return Recompute::apply(x, anchor, f);
}

}  // namespace switchyard
