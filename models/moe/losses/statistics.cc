#include "models/moe/losses/statistics.h"

#include "core/tensor/aten.h"
#include "models/moe/placement/assignment.h"

namespace switchyard::models {

double assignments_per_token(config::LoadFraction which, int64_t choices) {
  const bool by_token = which == config::FIRST_CHOICE || which == config::TOKENS_CHOOSING;
  return by_token ? 1 : static_cast<double>(choices);
}

int64_t statistics_tokens(const config::Moe& moe, const StepContext& context) {
  const bool by_sequence = moe.balance_loss().statistics() == config::PER_SEQUENCE;
  return by_sequence ? context.group_tokens / moe.capacity().group_sequences()
                     : context.group_tokens;
}

at::Tensor over_statistics(const at::Tensor& count_GN, config::Statistics statistics,
                           parallel::Communicator& data, at::Tensor* so_far) {
  if (statistics == config::PER_RANK) return count_GN.sum(0, /*keepdim=*/true);
  if (statistics != config::GLOBAL_BATCH) return count_GN;
  at::Tensor total_1N = total_over(count_GN.sum(0, /*keepdim=*/true), data);
  if (!so_far) return total_1N;
  if (so_far->defined()) total_1N = total_1N + *so_far;
  *so_far = total_1N;
  return total_1N;
}

at::Tensor count_load(const at::Tensor& expert_TK, int64_t num_experts, int64_t group_tokens,
                      config::LoadFraction which, const at::Tensor& is_real_T) {
  const int64_t counted = which == config::FIRST_CHOICE ? 1 : expert_TK.size(1);
  return count_slots(expert_TK.narrow(1, 0, counted),
                     is_real_T.defined() ? is_real_T.unsqueeze(1) : is_real_T, num_experts,
                     group_tokens);
}

at::Tensor total_over(const at::Tensor& local, parallel::Communicator& data) {
  at::Tensor total = local.detach().to(at::kDouble).clone().contiguous();
  data.all_reduce(total.mutable_data_ptr(), total.numel(), DType::kFloat64,
                  parallel::ReduceOp::kSum, "load of the router's losses");
  return total;
}

}  // namespace switchyard::models
