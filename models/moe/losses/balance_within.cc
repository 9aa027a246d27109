#include "models/moe/losses/balance_within.h"

#include <algorithm>

#include "core/tensor/aten.h"
#include "models/moe/losses/statistics.h"

namespace switchyard::models {

at::Tensor balance_slope_within(const Routing& routing, const at::Tensor& enters_T1,
                                const config::Moe& moe, const StepContext& context,
                                parallel::Communicator& data, LoadTotals* totals) {
  const at::Tensor& group_TL = routing.groups.group_TL;
  const int64_t tokens = group_TL.size(0), kept = group_TL.size(1);
  const int64_t groups = moe.router().num_groups(), size = moe.num_experts() / groups;
  const int64_t each = routing.expert_TK.size(1) / kept;
  const at::Tensor of_best_TJ =
      routing.expert_TK.view({tokens, each, kept}).select(2, 0).contiguous();
  const auto which = moe.balance_loss().load();
  const auto count = [&](config::LoadFraction of, at::Tensor LoadTotals::*kind) {
    const int64_t group_tokens = statistics_tokens(moe, context);
    const at::Tensor count_GE =
        count_load(of_best_TJ, moe.num_experts(), group_tokens, of, enters_T1.flatten())
            .to(at::kDouble);
    return over_statistics(count_GE, moe.balance_loss().statistics(), data,
                           totals ? &(totals->*kind) : nullptr)
        .view({-1, groups, size});
  };
  const at::Tensor count_GAI = count(which, &LoadTotals::within);
  const at::Tensor entering_GA1 =
      count(config::FIRST_CHOICE, &LoadTotals::entering).sum(2, /*keepdim=*/true);
  const at::Tensor fraction_GAI =
      count_GAI / entering_GA1.clamp_min(1) / assignments_per_token(which, each);
  return fraction_GAI.flatten(1) *
         (static_cast<double>(size) / static_cast<double>(context.count.in_step));
}

at::Tensor balance_loss_within(const Routing& routing, const at::Tensor& enters_T1,
                               const at::Tensor& slope_GE) {
  const at::Tensor& p_TLI = routing.groups.probability_TLI;
  const int64_t tokens = p_TLI.size(0), size = p_TLI.size(2);
  const int64_t groups = slope_GE.size(1) / size, statistics = slope_GE.size(0);
  const at::Tensor p_TI = p_TLI.select(1, 0);
  const at::Tensor statistics_T =
      at::arange(tokens, at::kLong).mul(statistics).floor_divide(std::max<int64_t>(tokens, 1));
  const at::Tensor row_T = statistics_T * groups + routing.groups.group_TL.select(1, 0);
  const at::Tensor slope_TI =
      slope_GE.view({statistics * groups, size}).index_select(0, row_T).to(p_TI.scalar_type());
  return (p_TI * slope_TI * enters_T1.to(p_TI.scalar_type())).sum();
}

}  // namespace switchyard::models
