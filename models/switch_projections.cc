#include "models/switch_projections.h"

#include <cmath>

#include "core/config/layers.h"
#include "core/tensor/aten.h"

namespace switchyard::models {

SwitchProjections::SwitchProjections(const Scope& scope, const config::Model& model,
                                     const parallel::Mesh& mesh, uint32_t layer,
                                     int64_t moe_index) {
  constexpr uint32_t kStreamsApart = 1 << 16;  // more than there are layers
  const config::Attention& attention = model.attention();
  const int64_t queries = int64_t{attention.num_heads()} * attention.head_dim();
  const int64_t keys = int64_t{attention.num_kv_heads()} * attention.head_dim();
  const char* names[kCount] = {"query", "key", "value"};
  const int64_t widths[kCount] = {queries, keys, keys};
  // T5 and GLaM do not scale the scores: their queries start smaller instead.
  const bool unscaled = model.architecture() == config::ENCODER_DECODER ||
                        attention.position() == config::RELATIVE_BIAS;
  const double narrow = unscaled ? 1 / std::sqrt(static_cast<double>(attention.head_dim())) : 1;
  layers_.reserve(kCount);
  for (uint32_t i = 0; i < kCount; ++i) {
    layers_.emplace_back(
        scope / names[i], model, mesh, layer + (i + 1) * kStreamsApart, moe_index + i,
        Projection{widths[i], config::declared_init_std(model) * (i == 0 ? narrow : 1)});
  }
}

at::Tensor SwitchProjections::forward(const at::Tensor& x_TD, const StepContext& context,
                                      RoutingDecision& decision) const {
  decision.projections.resize(kCount);
  const auto [rank, ranks] = context.rows.place();
  std::vector<at::Tensor> parts;
  for (size_t i = 0; i < layers_.size(); ++i) {
    const at::Tensor all =
        context.rows.gather(layers_[i].forward(x_TD, context, decision.projections[i]));
    const int64_t here = all.size(1) / ranks;
    parts.push_back(all.narrow(1, rank * here, here));
  }
  return at::concat(parts, 1);
}

}  // namespace switchyard::models
