#include "models/moe/rules/expert_dropout.h"

#include "core/base/random.h"
#include "core/tensor/aten.h"
#include "models/pass/draws.h"

namespace switchyard::models {
namespace {

// The global token of each row of this rank's experts, [R].
at::Tensor token_of_row(const StepContext& context,
                        const std::shared_ptr<const parallel::ExchangePlan>& plan) {
  const int64_t tokens = plan->row_of_slot_TK.size(0);
  // As rows of one double each, exact far beyond any token's number.
  const at::Tensor ids_T1 = draw_by_token(context.tokens, tokens, 1, at::kDouble,
                                          [](int64_t token) { return static_cast<double>(token); });
  return parallel::dispatch(ids_T1, plan).flatten().to(at::kLong);
}

}  // namespace

at::Tensor expert_dropout_mask(const config::Moe& moe, const StepContext& context, uint32_t layer,
                               const std::shared_ptr<const parallel::ExchangePlan>& plan,
                               int64_t first_expert) {
  const double rate = moe.expert_dropout();
  if (!context.training || rate == 0) return {};
  const at::Tensor tokens = token_of_row(context, plan);
  const int64_t* token = tokens.const_data_ptr<int64_t>();
  const int64_t width = moe.d_ff(), num_experts = moe.num_experts();
  const Random random = context.key.random(Stream::kExpertDropout, layer);
  const auto kept = static_cast<float>(1 / (1 - rate));
  at::Tensor mask_RF = at::empty({plan->num_rows(), width}, at::kFloat);
  auto* factor = mask_RF.mutable_data_ptr<float>();
  for (size_t i = 0; i + 1 < plan->offsets.size(); ++i) {
    const int64_t expert = first_expert + static_cast<int64_t>(i);
    at::parallel_for(plan->offsets[i], plan->offsets[i + 1], 1, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        const int64_t first = (token[row] * num_experts + expert) * width;
        for (int64_t f = 0; f < width; ++f)
          factor[row * width + f] = random.uniform(first + f) < rate ? 0 : kept;
      }
    });
  }
  return mask_RF;
}

}  // namespace switchyard::models
