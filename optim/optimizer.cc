#include "optim/optimizer.h"

#include "core/tensor/aten.h"
#include "parallel/sharding.h"

namespace switchyard::optim {

Optimizer::Optimizer(const config::Optimizer& options, std::span<ParameterGroup> groups,
                     const parallel::Mesh& mesh)
    : options_(options), groups_(groups), mesh_(&mesh) {}

double Optimizer::clip_factor(double gradient_norm) const {
  const double limit = options_.clip_norm();
  return limit > 0 && gradient_norm > limit ? limit / gradient_norm : 1.0;
}

void Optimizer::step(double learning_rate, double gradient_norm) {
  const at::NoGradGuard no_grad;
  ++num_steps_;
  if (const double factor = clip_factor(gradient_norm); factor != 1.0) {
    for (ParameterGroup& group : groups_)
      for (const Stretch& stretch : group.owned) group.gradient_of(stretch).mul_(factor);
  }
  update(learning_rate);
  parallel::refresh_values(groups_, *mesh_);
}

std::unique_ptr<Optimizer> make_optimizer(const config::Optimizer& options,
                                          std::span<ParameterGroup> groups,
                                          const parallel::Mesh& mesh) {
  switch (options.kind()) {
    case config::ADAFACTOR:
      return make_adafactor(options, groups, mesh);
    case config::SGD:
      return make_sgd(options, groups, mesh);
    default:
      return make_adamw(options, groups, mesh);
  }
}

std::vector<Stretch> zeros_beside(const ParameterGroup& group) {
  std::vector<Stretch> zeros;
  for (const Stretch& stretch : group.owned)
    zeros.push_back({stretch.range, at::zeros_like(stretch.values)});
  return zeros;
}

void append_parts(const char* kind, std::span<const Stretch> owned, const ParameterGroup& group,
                  std::vector<StateTensor>& state) {
  for (const Parameter* parameter : group.parameters)
    state.push_back({kind, parameter, stretches_within(owned, parameter->range())});
}

void choose_weight_decay(const config::Optimizer& options, ParameterTable& table) {
  for (Parameter& parameter : table.parameters()) {
    const bool is_norm = parameter.role == Role::kNorm && parameter.use == Use::kScale;
    const bool is_embedding = parameter.role == Role::kEmbedding;
    if (is_norm && options.has_decay_norms()) parameter.decay = options.decay_norms();
    if (is_embedding && options.has_decay_embeddings())
      parameter.decay = options.decay_embeddings();
  }
}

}  // namespace switchyard::optim
