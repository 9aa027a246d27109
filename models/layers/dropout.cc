#include "models/layers/dropout.h"

#include "core/base/random.h"
#include "core/tensor/aten.h"

namespace switchyard::models {

at::Tensor dropout(const at::Tensor& x_TN, double rate, const StepContext& context,
                   uint32_t layer) {
  if (!context.training || rate == 0) return x_TN;
  const Random random(context.seed, Stream::kDropout, context.step, layer);
  const int64_t width = x_TN.size(1);
  const at::Tensor factor_TN = at::empty(x_TN.sizes(), at::kFloat);
  float* factor = factor_TN.mutable_data_ptr<float>();
  const auto kept = static_cast<float>(1 / (1 - rate));
  at::parallel_for(0, factor_TN.numel(), 4096, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      factor[i] = random.uniform(context.first_token * width + i) < rate ? 0 : kept;
    }
  });
  return x_TN * factor_TN.to(x_TN.scalar_type());
}

}  // namespace switchyard::models
