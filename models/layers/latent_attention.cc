#include "models/layers/latent_attention.h"

#include "core/tensor/aten.h"
#include "core/tensor/ops.h"
#include "core/tensor/profiled_part.h"
#include "models/layers/init.h"

namespace switchyard::models {
namespace {

// The pairs that turn together are neighbours here, (x0, x1), (x2, x3), ...; rope() wants the
// halves apart. Queries and keys are permuted alike, so their products stay.
at::Tensor rope_neighbours(const at::Tensor& x_BSHd, const RotaryTables& tables) {
  const at::Tensor halves = x_BSHd.unflatten(3, {-1, 2}).transpose(3, 4).flatten(3);
  return rope(halves, tables.cos_Sd, tables.sin_Sd);
}

}  // namespace

LatentAttention::LatentAttention(const Scope& scope, const config::Model& model)
    : sizes_(model.attention().latent()),
      num_heads_(heads_here(scope, model.attention().num_heads())),
      scale_(model.attention().scale()),
      q_(scope.cut(Axis::kTensor, 0), sizes_.q_rank() > 0 ? "q_up" : "q",
         int64_t{model.attention().num_heads()} * (sizes_.nope_dim() + sizes_.rope_dim()),
         sizes_.q_rank() > 0 ? sizes_.q_rank() : model.d_model(), normal_init(model)),
      kv_down_(scope, "kv_down", sizes_.kv_rank() + sizes_.rope_dim(), model.d_model(),
               normal_init(model)),
      kv_norm_(scope, "kv_norm", rms_norm_options(model), sizes_.kv_rank()),
      kv_up_(scope.cut(Axis::kTensor, 0), "kv_up",
             int64_t{model.attention().num_heads()} * (sizes_.nope_dim() + sizes_.value_dim()),
             sizes_.kv_rank(), normal_init(model)),
      out_(scope.cut(Axis::kTensor, 1), "out", model.d_model(),
           int64_t{model.attention().num_heads()} * sizes_.value_dim(), residual_init(model)) {
  if (sizes_.q_rank() == 0) return;
  q_down_.emplace(scope, "q_down", sizes_.q_rank(), model.d_model(), normal_init(model));
  q_norm_.emplace(scope, "q_norm", rms_norm_options(model), sizes_.q_rank());
}

// [B, S, H, n + p], rotated.
at::Tensor LatentAttention::queries(const at::Tensor& x_TD, const AttentionInput& input) const {
  const at::Tensor source = q_down_ ? q_norm_->forward(q_down_->forward(x_TD)) : x_TD;
  const at::Tensor q = q_.forward(source).view({input.sequences, input.length, num_heads_, -1});
  const auto parts = q.split_with_sizes({sizes_.nope_dim(), sizes_.rope_dim()}, 3);
  return at::concat({parts[0], rope_neighbours(parts[1], input.rotary)}, 3);
}

at::Tensor LatentAttention::forward(const at::Tensor& x_TD, const AttentionInput& input,
                                    KvCache* cache, const InnerDropout& dropout) const {
  const ProfiledPart part("sy::attention");
  const at::Tensor down = kv_down_.forward(x_TD).view({input.sequences, input.length, 1, -1});
  const auto parts = down.split_with_sizes({sizes_.kv_rank(), sizes_.rope_dim()}, 3);
  at::Tensor latent = kv_norm_.forward(parts[0]).transpose(1, 2);
  at::Tensor rotated = rope_neighbours(parts[1], input.rotary).transpose(1, 2);
  if (cache) cache->append(rotated, latent);

  const int64_t positions = latent.size(2);
  const auto kv = kv_up_.forward(latent.squeeze(1))
                      .view({input.sequences, positions, num_heads_, -1})
                      .transpose(1, 2)
                      .split_with_sizes({sizes_.nope_dim(), sizes_.value_dim()}, 3);
  const at::Tensor key = at::concat({kv[0], rotated.expand({-1, num_heads_, -1, -1})}, 3);
  const at::Tensor out = attend(queries(x_TD, input).transpose(1, 2), key, kv[1], input.mask_B1SS,
                                {scale_, 0, dropout});
  return out_.forward(out.transpose(1, 2).reshape({x_TD.size(0), num_heads_ * sizes_.value_dim()}));
}

}  // namespace switchyard::models
