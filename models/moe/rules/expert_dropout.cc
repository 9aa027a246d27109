#include "models/moe/rules/expert_dropout.h"

#include "core/base/random.h"
#include "core/tensor/aten.h"
#include "models/pass/draws.h"
#include "models/pass/on_host.h"

namespace switchyard::models {
namespace {

// The global token of each row of this rank's experts, [R].
at::Tensor token_of_row(const StepContext& context,
                        const std::shared_ptr<const parallel::ExchangePlan>& plan) {
  const int64_t tokens = plan->row_of_slot_TK.size(0);
  // As rows of one double each, exact far beyond any token's number.
  const at::Tensor ids_T1 = draw_by_token(own_tokens(context), tokens, 1, at::kDouble,
                                          [](int64_t token) { return static_cast<double>(token); });
  return parallel::dispatch(ids_T1, plan).flatten().to(at::kLong);
}

}  // namespace

at::Tensor expert_dropout_mask(const config::Moe& moe, const StepContext& context, uint32_t layer,
                               const std::shared_ptr<const parallel::ExchangePlan>& plan,
                               const HeldExperts& held) {
  const double rate = moe.expert_dropout();
  if (!context.training || rate == 0) return {};
  const int64_t width = moe.d_ff(), num_experts = moe.num_experts();
  std::vector<int64_t> index(plan->num_rows());  // of the draw of each row's first feature
  const at::Tensor tokens = on_host(token_of_row(context, plan));
  const int64_t* token = tokens.const_data_ptr<int64_t>();
  for (int64_t i = 0; i + 1 < std::ssize(plan->offsets); ++i) {
    for (int64_t row = plan->offsets[i]; row < plan->offsets[i + 1]; ++row)
      index[row] = (token[row] * num_experts + held.experts.begin + i) * width;
  }
  const Random random = context.key.random(Stream::kExpertDropout, layer);
  const auto& [first, end] = held.features;
  return fill_rows(plan->num_rows(), end - first, at::kFloat, [&](int64_t row, int64_t f) {
    return random.uniform(index[row] + first + f) < rate ? 0 : 1 / (1 - rate);
  });
}

}  // namespace switchyard::models
