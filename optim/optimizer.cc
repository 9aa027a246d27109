#include "optim/optimizer.h"

#include "core/tensor/aten.h"
#include "optim/adafactor.h"
#include "optim/adamw.h"
#include "optim/factored_adam.h"
#include "optim/sgd.h"

namespace switchyard::optim {

Optimizer::Optimizer(const config::Optimizer& options, std::span<ParameterGroup> groups)
    : options_(options), groups_(groups) {}

double Optimizer::clip_factor(double gradient_norm) const {
  const double limit = options_.clip_norm();
  return limit > 0 && gradient_norm > limit ? limit / gradient_norm : 1.0;
}

void Optimizer::step(double learning_rate, double gradient_norm) {
  const at::NoGradGuard no_grad;
  ++num_steps_;
  if (const double factor = clip_factor(gradient_norm); factor != 1.0) {
    for (ParameterGroup& group : groups_) group.grad.mul_(factor);
  }
  update(learning_rate);
  for (ParameterGroup& group : groups_) group.refresh_value();
}

std::unique_ptr<Optimizer> make_optimizer(const config::Optimizer& options,
                                          std::span<ParameterGroup> groups,
                                          const parallel::Mesh& mesh) {
  switch (options.kind()) {
    case config::ADAFACTOR:
      return std::make_unique<Adafactor>(options, groups, mesh);
    case config::SGD:
      return std::make_unique<Sgd>(options, groups);
    case config::ADAM_FACTORED_EXPERTS:
      return std::make_unique<FactoredAdam>(options, groups);
    default:
      return std::make_unique<AdamW>(options, groups);
  }
}

at::Tensor part_of(const at::Tensor& flat, const ParameterGroup& group,
                   const Parameter& parameter) {
  const int64_t offset = parameter.master.storage_offset() - group.master.storage_offset();
  return flat.narrow(0, offset, parameter.local_count()).view(parameter.local_shape());
}

}  // namespace switchyard::optim
