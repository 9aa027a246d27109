#include "models/moe/rules/sinkhorn.h"

#include "core/tensor/aten.h"

namespace switchyard::models {
namespace {

// One group by itself, so that it ends after the same rounds whatever other groups its rank has.
at::Tensor sinkhorn_group(const at::Tensor& mass_TE) {
  constexpr int kMostRounds = 100;
  constexpr double kTolerance = 1e-4, kTiny = 1e-30;
  const at::Tensor tokens = mass_TE.sum(1).gt(0).sum().clamp_min(1);
  at::Tensor row = at::ones({mass_TE.size(0), 1}, at::kDouble), column;
  for (int round = 0; round < kMostRounds; ++round) {
    column = ((mass_TE * row).sum(0, true) * mass_TE.size(1)).clamp_min(kTiny).reciprocal();
    const at::Tensor next =
        ((mass_TE * column).sum(1, true) * tokens).clamp_min(kTiny).reciprocal();
    const bool settled = ((next - row).abs() / next).max().item<double>() < kTolerance;
    row = next;
    if (settled) break;
  }
  // In steps of 2^-16 of the even mass: where all tokens are equal so is the mass, and the last
  // bits, which depend on how the logits' matrix product was cut, must not decide.
  const double steps = static_cast<double>(mass_TE.numel()) * (1 << 16);
  return (mass_TE * row * column * steps).round() / steps;
}

}  // namespace

at::Tensor sinkhorn(const at::Tensor& logits_TE, int64_t group_tokens,
                    const at::Tensor& is_real_T) {
  at::Tensor mass_TE = logits_TE.detach().to(at::kDouble);
  mass_TE = (mass_TE - mass_TE.amax(-1, true)).exp();
  if (is_real_T.defined()) mass_TE = mass_TE * is_real_T.unsqueeze(1);
  for (int64_t first = 0; first < mass_TE.size(0); first += group_tokens) {
    at::Tensor group = mass_TE.narrow(0, first, group_tokens);
    group.copy_(sinkhorn_group(group));
  }
  return mass_TE;
}

}  // namespace switchyard::models
