#include "models/moe/losses.h"

#include "core/tensor/aten.h"
#include "core/tensor/differentiable.h"

namespace switchyard::models {

at::Tensor count_load(const at::Tensor& expert_TK, int64_t num_experts, int64_t group_tokens,
                      config::LoadFraction which) {
  const int64_t tokens = expert_TK.size(0), choices = expert_TK.size(1);
  const int64_t counted = which == config::FIRST_CHOICE ? 1 : choices;
  at::Tensor counts = at::zeros({tokens / group_tokens, num_experts}, at::kLong);
  auto* count = counts.mutable_data_ptr<int64_t>();
  const int64_t* expert = expert_TK.const_data_ptr<int64_t>();
  for (int64_t t = 0; t < tokens; ++t) {
    int64_t* group_count = count + t / group_tokens * num_experts;
    for (int64_t j = 0; j < counted; ++j) ++group_count[expert[t * choices + j]];
  }
  return counts;
}

at::Tensor load_share(const at::Tensor& expert_TK, const config::Moe& moe, int64_t group_tokens,
                      const StepContext& context, parallel::Communicator& data) {
  const auto which = moe.balance_loss().load();
  const int64_t per_token = which == config::FIRST_CHOICE ? 1 : expert_TK.size(1);
  at::Tensor count = count_load(expert_TK, moe.num_experts(), group_tokens, which);
  int64_t tokens = group_tokens;
  if (moe.balance_loss().statistics() == config::GLOBAL_BATCH) {
    count = count.sum(0, true);
    data.all_reduce(count.mutable_data_ptr(), count.numel(), DType::kInt64,
                    parallel::ReduceOp::kSum, "load of the balance loss");
    tokens = context.tokens_in_micro_batch;
  }
  return count.to(at::kDouble) / static_cast<double>(tokens * per_token);
}

at::Tensor balance_loss(const at::Tensor& probability_TE, const at::Tensor& share_GE,
                        const StepContext& context) {
  const int64_t experts = probability_TE.size(1), groups = share_GE.size(0);
  const int64_t group_tokens = groups > 0 ? probability_TE.size(0) / groups : 0;
  const at::Tensor sum_GE = probability_TE.view({groups, group_tokens, experts}).sum(1);
  return (sum_GE * share_GE.to(sum_GE.scalar_type())).sum() *
         (static_cast<double>(experts) / static_cast<double>(context.tokens_in_step));
}

at::Tensor router_z_loss(const at::Tensor& logits_TE, const StepContext& context) {
  return logits_TE.logsumexp(-1).square().sum() / static_cast<double>(context.tokens_in_step);
}

at::Tensor attach_loss(const at::Tensor& x, const at::Tensor& loss) {
  const auto backward = [type = loss.scalar_type()](const at::Tensor& dx,
                                                    const std::vector<bool>&) {
    return std::vector{dx, at::ones({}, type)};
  };
  return differentiable("attach_loss", {x, loss}, x, backward);
}

}  // namespace switchyard::models
