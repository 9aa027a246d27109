#include "models/moe/rules/gate_noise.h"

#include <numbers>

#include "core/tensor/aten.h"

namespace switchyard::models {

NoisyLogits add_noise(const at::Tensor& clean_TE, const at::Tensor& noise_logits_TE,
                      const at::Tensor& normal_TE) {
  constexpr double kLeastNoise = 1e-2;  // in the reference code, not in the paper
  if (!normal_TE.defined()) return {clean_TE, {}};
  const at::Tensor sigma_TE = at::softplus(noise_logits_TE) + kLeastNoise;
  return {clean_TE + normal_TE * sigma_TE, sigma_TE};
}

NoisyLogits add_fixed_noise(const at::Tensor& clean_TE, double noise_std,
                            const at::Tensor& normal_TE) {
  if (!normal_TE.defined()) return {clean_TE, {}};
  return {clean_TE + normal_TE * noise_std, at::full_like(clean_TE, noise_std)};
}

at::Tensor chance_of_choice(const at::Tensor& clean_TE, const NoisyLogits& noise, int64_t k) {
  const auto& [noisy_TE, sigma_TE] = noise;
  if (!sigma_TE.defined() || k >= clean_TE.size(1)) return {};
  const at::Tensor best = std::get<0>(noisy_TE.topk(k + 1, -1));
  const at::Tensor if_in = best.narrow(1, k, 1), if_out = best.narrow(1, k - 1, 1);
  const at::Tensor threshold = at::where(noisy_TE > if_in, if_in, if_out);
  return 0.5 * (1 + ((clean_TE - threshold) / (sigma_TE * std::numbers::sqrt2)).erf());
}

}  // namespace switchyard::models
