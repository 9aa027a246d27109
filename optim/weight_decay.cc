#include "optim/weight_decay.h"

namespace switchyard::optim {

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
