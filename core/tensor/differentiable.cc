#include "core/tensor/differentiable.h"

#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/variable.h>

#include <utility>

#include "core/base/errors.h"

namespace switchyard {
namespace {

using torch::autograd::variable_list;

thread_local Announce announced_uses = Announce::kWithGraph;

class Operation : public torch::autograd::Node {
 public:
  Operation(const char* name, Backward backward, std::vector<Parameter*> contributes_to,
            torch::autograd::edge_list&& next)
      : Node(std::move(next)),
        name_(name),
        backward_(std::move(backward)),
        contributes_to_(std::move(contributes_to)) {}

  std::string name() const override { return name_; }
  void release_variables() override { backward_ = nullptr; }

  variable_list apply(variable_list&& gradients) override {
    SY_CHECK(backward_, "{}: backward runs once for each forward", name_);
    // Undefined: nothing downstream depends on the output. Ranks must meet in the collectives of
    // backward all the same.
    const at::Tensor d_output =
        gradients[0].defined() ? gradients[0] : input_metadata(0).zeros_like();
    std::vector<bool> needs(num_outputs());
    for (size_t i = 0; i < needs.size(); ++i) needs[i] = task_should_compute_output(i);
    variable_list d_inputs = backward_(d_output, needs);
    d_inputs.resize(num_outputs());  // autograd has no gradients of parameters to keep
    for (Parameter* parameter : contributes_to_) parameter->sink->arrived(*parameter);
    return d_inputs;
  }

 private:
  const char* name_;
  Backward backward_;
  std::vector<Parameter*> contributes_to_;
};

}  // namespace

AnnounceGuard::AnnounceGuard(Announce uses) : before_(announced_uses) {
  if (before_ != Announce::kNever) announced_uses = uses;
}
AnnounceGuard::~AnnounceGuard() { announced_uses = before_; }

at::Tensor differentiable(const char* name, const std::vector<at::Tensor>& inputs,
                          const std::vector<Parameter*>& parameters, const at::Tensor& output,
                          Backward backward) {
  std::vector<at::Tensor> all = inputs;
  for (const Parameter* parameter : parameters) all.push_back(parameter->value);
  std::vector<Parameter*> contributes_to = parameters;
  std::erase_if(contributes_to, [](const Parameter* parameter) { return !parameter->trains; });
  const bool has_graph = torch::autograd::compute_requires_grad(at::TensorList(all));
  if (announced_uses == Announce::kAlways || (has_graph && announced_uses != Announce::kNever)) {
    for (Parameter* parameter : contributes_to) parameter->sink->announce(*parameter);
  }
  at::Tensor result = output.detach();  // not a view to autograd, whatever the output is
  if (!has_graph) return result;
  torch::autograd::set_history(
      result,
      c10::make_intrusive<Operation>(name, std::move(backward), std::move(contributes_to),
                                     torch::autograd::collect_next_edges(at::TensorList(all))));
  return result;
}

at::Tensor differentiable(const char* name, const std::vector<at::Tensor>& inputs,
                          const at::Tensor& output, Backward backward) {
  return differentiable(name, inputs, {}, output, std::move(backward));
}

}  // namespace switchyard
