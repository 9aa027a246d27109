#include "core/tensor/differentiable.h"

#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/variable.h>

#include "core/base/errors.h"

namespace switchyard {
namespace {

using torch::autograd::variable_list;

class Operation : public torch::autograd::Node {
 public:
  Operation(const char* name, Backward backward, torch::autograd::edge_list&& next)
      : Node(std::move(next)), name_(name), backward_(std::move(backward)) {}

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
    return backward_(d_output, needs);
  }

 private:
  const char* name_;
  Backward backward_;
};

}  // namespace

at::Tensor differentiable(const char* name, const std::vector<at::Tensor>& inputs,
                          const at::Tensor& output, Backward backward) {
  at::Tensor result = output.detach();  // not a view to autograd, whatever the output is
  if (!torch::autograd::compute_requires_grad(at::TensorList(inputs))) return result;
  torch::autograd::set_history(
      result,
      c10::make_intrusive<Operation>(name, std::move(backward),
                                     torch::autograd::collect_next_edges(at::TensorList(inputs))));
  return result;
}

}  // namespace switchyard
