#pragma once
// Noise on a gate's logits, trained (Shazeer et al., 2017) or fixed (Riquelme et al., 2021, V-MoE),
// and what it says about the load (2017, section 4 and appendix A).

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace switchyard::models {

struct NoisyLogits {
  at::Tensor noisy_TE;  // the clean ones without noise
  at::Tensor sigma_TE;  // undefined without noise
};

// clean + normal * (softplus(noise_logits) + 0.01); `normal` undefined: no noise.
NoisyLogits add_noise(const at::Tensor& clean_TE, const at::Tensor& noise_logits_TE,
                      const at::Tensor& normal_TE);

// clean + normal * noise_std, whatever the token; `normal` undefined: no noise.
NoisyLogits add_fixed_noise(const at::Tensor& clean_TE, double noise_std,
                            const at::Tensor& normal_TE);

// The probability that an expert is among the k best when its noise is drawn again and the others'
// is kept: Phi((clean - threshold) / sigma), where the threshold is the best noisy logit that it
// must beat, the (k+1)-th for those that are chosen, the k-th for the others. Gradients pass
// through the clean logits, sigma and the threshold. Undefined without noise or with k = E.
at::Tensor chance_of_choice(const at::Tensor& clean_TE, const NoisyLogits& noise, int64_t k);

}  // namespace switchyard::models
