#include "optim/factored_moment.h"

#include <limits>

#include "core/tensor/aten.h"

namespace switchyard::optim {
namespace {

// The shape without dimension `dim`, which is counted from the end.
std::vector<int64_t> without(std::vector<int64_t> shape, int64_t dim) {
  shape.erase(shape.end() + dim);
  return shape;
}

// mean <- decay * mean + (1 - decay) * value
void move_toward(const at::Tensor& mean, const at::Tensor& value, double decay) {
  mean.mul_(decay).add_(value, 1 - decay);
}

// All of the tensor, unless this rank has none of it.
std::vector<Stretch> whole_stretch(const at::Tensor& tensor) {
  if (!tensor.defined()) return {};
  return {{{0, tensor.numel()}, tensor.view(-1)}};
}

}  // namespace

FactoredMoment::FactoredMoment(const Parameter& parameter, int64_t least_dim,
                               const parallel::Mesh& mesh)
    : parameter_(&parameter), mesh_(&mesh) {
  const std::vector<int64_t>& whole = parameter.shape;
  const size_t matrix_dims = whole.size() - (parameter.experts() ? 1 : 0);
  is_factored_ =
      matrix_dims == 2 && whole.back() >= least_dim && whole[whole.size() - 2] >= least_dim;
  if (!parameter.master.defined()) return;
  const std::vector<int64_t> shape = parameter.local_shape();
  const auto options = parameter.master.options();
  if (is_factored_) {
    row_ = at::zeros(without(shape, -1), options);
    column_ = at::zeros(without(shape, -2), options);
  } else {
    whole_ = at::zeros(shape, options);
  }
}

void FactoredMoment::accumulate(const at::Tensor& gradient, double decay, double epsilon) {
  const at::Tensor square = gradient.square().add_(epsilon);
  if (!is_factored()) return move_toward(whole_, square, decay);
  move_toward(row_, over_ranks(square.mean(-1), -1), decay);
  move_toward(column_, over_ranks(square.mean(-2), -2), decay);
}

at::Tensor FactoredMoment::over_ranks(at::Tensor mean, int64_t dim) const {
  const int64_t index = std::ssize(parameter_->shape) + dim;
  for (const Cut& cut : parameter_->cuts) {
    if (cut.dim != index) continue;
    parallel::Communicator& ranks = mesh_->along(cut.axis);
    const DType dtype = mean.scalar_type() == at::kDouble ? DType::kFloat64 : DType::kFloat32;
    ranks.all_reduce(mean.mutable_data_ptr(), mean.numel(), dtype, parallel::ReduceOp::kSum,
                     "means of a factored moment");
    mean.div_(ranks.size());
  }
  return mean;
}

at::Tensor FactoredMoment::root() const {
  if (!is_factored()) return whole_.sqrt();
  // The product of two small means leaves float32: hence the roots first. An expert that never had
  // a token has means of 0.
  const double tiny = std::numeric_limits<float>::min();
  const at::Tensor mean = over_ranks(row_.mean(-1, true), -2);
  const at::Tensor share = (row_ / mean.clamp_min(tiny)).sqrt_();
  return share.unsqueeze(-1) * column_.sqrt().unsqueeze(-2);
}

void FactoredMoment::append_state(std::vector<StateTensor>& state) const {
  const int dims = static_cast<int>(parameter_->shape.size());
  if (is_factored()) {
    state.push_back({"row_moment", parameter_, whole_stretch(row_), dims - 1});
    state.push_back({"column_moment", parameter_, whole_stretch(column_), dims - 2});
  } else {
    state.push_back({"second_moment", parameter_, whole_stretch(whole_)});
  }
}

}  // namespace switchyard::optim
