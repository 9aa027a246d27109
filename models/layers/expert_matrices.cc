#include "models/layers/expert_matrices.h"

#include "core/tensor/aten.h"
#include "core/tensor/ops.h"
#include "core/tensor/profiled_part.h"
#include "models/layers/init.h"
#include "parallel/collectives.h"

namespace switchyard::models {
namespace {

// Each matrix takes a sharer's part of its input, but for the first of several, which gives a part
// of its output.
Scope by_row(const Scope& experts) { return experts.cut(Axis::kExpertTensor, 0); }
Scope by_column(const Scope& experts) { return experts.cut(Axis::kExpertTensor, 1); }

at::Tensor own_features(const at::Tensor& rows, const parallel::Communicator& sharers) {
  const Slice own = share_of(rows.size(1), {sharers.rank(), sharers.size()});
  return rows.narrow(1, own.begin, own.size()).contiguous();
}

// This sharer's features of the sum of all sharers' terms [R, F].
at::Tensor sum_to_features(const at::Tensor& terms, parallel::Communicator& sharers) {
  return parallel::sum_to_shares(terms.t(), sharers).t().contiguous();
}

}  // namespace

ExpertMatrices::ExpertMatrices(const Scope& scope, const config::Model& model,
                               const Projection& projection)
    : matrices_{&by_column(scope.of_experts(model.moe().num_experts()))
                     .matrix("weight", {projection.width, model.d_model()},
                             {Init::kNormal, projection.init_std})} {}

ExpertMatrices::ExpertMatrices(const Scope& scope, const config::Model& model) {
  const Scope layers = scope.of_experts(model.moe().num_experts()) / "layers";
  const int64_t d_model = model.d_model(), d_ff = model.moe().d_ff();
  const int last = model.moe().hidden_layers();
  matrices_.push_back(&by_row(layers / 0).matrix("weight", {d_ff, d_model}, normal_init(model)));
  for (int i = 1; i < last; ++i) {
    matrices_.push_back(&by_column(layers / i).matrix("weight", {d_ff, d_ff}, normal_init(model)));
  }
  matrices_.push_back(
      &by_column(layers / last).matrix("weight", {d_model, d_ff}, residual_init(model)));
}

at::Tensor ExpertMatrices::forward(const at::Tensor& rows_RD, const std::vector<int64_t>& offsets,
                                   parallel::Communicator* sharers) const {
  const ProfiledPart part("sy::experts");
  const bool is_one = matrices_.size() == 1;
  const at::Tensor x = sharers && is_one ? own_features(rows_RD, *sharers) : rows_RD;
  at::Tensor y = linear_experts(x, *matrices_.front(), offsets);
  for (size_t i = 1; i < matrices_.size(); ++i) {
    if (sharers && i > 1) y = sum_to_features(y, *sharers);
    y = linear_experts(at::relu(y), *matrices_[i], offsets);
  }
  return y;
}

}  // namespace switchyard::models
