// Rules about the sizes of attention: heads and positions.

#include "core/config/validate_rules.h"

namespace switchyard::config {
namespace {

void check_heads(const Model& model, Findings& findings) {
  const Attention& attention = model.attention();
  const int heads = attention.num_heads(), kv_heads = attention.num_kv_heads();
  const int head_dim = attention.head_dim(), d_model = model.d_model();
  if (heads > 0 && kv_heads > 0 && heads % kv_heads != 0)
    findings.add(
        "model.attention.num_kv_heads ({}) must divide model.attention.num_heads ({}); each "
        "key/value head serves the same number of heads",
        kv_heads, heads);
  const bool turns_heads = attention.position() == ROPE && !attention.has_latent();
  if (turns_heads && head_dim > 0 && head_dim % 2 != 0)
    findings.add(
        "model.attention.head_dim ({}) must be even, as RoPE turns pairs of channels; change "
        "d_model or num_heads, or set head_dim",
        head_dim);
  if (attention.has_latent()) return;  // its head_dim has nothing to do with d_model
  // The default rounds down; a head_dim of another size was meant so.
  if (heads > 0 && d_model > 0 && d_model % heads != 0 && head_dim == d_model / heads)
    findings.add(
        "model.attention.num_heads ({}) must divide model.d_model ({}) unless "
        "model.attention.head_dim is set to another value; change one of them",
        heads, d_model);
}

void check_position(const Attention& attention, Findings& findings) {
  const RelativeBias& bias = attention.relative_bias();
  if (attention.has_relative_bias() && bias.num_buckets() >= 2 &&
      bias.max_distance() <= bias.num_buckets() / 2)
    findings.add(
        "model.attention.relative_bias.max_distance ({}) must be above num_buckets / 2 ({}), the "
        "distances that have a bucket each; raise it or lower num_buckets",
        bias.max_distance(), bias.num_buckets() / 2);
  const Yarn& yarn = attention.yarn();
  if (attention.has_yarn() && yarn.beta_slow() >= yarn.beta_fast())
    findings.add(
        "model.attention.yarn.beta_slow ({}) must be below beta_fast ({}), as the ramp runs from "
        "one to the other; swap them",
        yarn.beta_slow(), yarn.beta_fast());
}

void check_latent(const Attention& attention, Findings& findings) {
  const Latent& latent = attention.latent();
  if (attention.num_kv_heads() != attention.num_heads())
    findings.add(
        "model.attention.num_kv_heads ({}) must equal num_heads ({}) with model.attention.latent, "
        "as every head has keys and values of its own; leave it out",
        attention.num_kv_heads(), attention.num_heads());
  if (latent.rope_dim() % 2 != 0)
    findings.add(
        "model.attention.latent.rope_dim ({}) must be even, as RoPE turns pairs of channels; "
        "change it",
        latent.rope_dim());
  if (attention.head_dim() != int64_t{latent.nope_dim()} + latent.rope_dim())
    findings.add(
        "model.attention.head_dim ({}) must be latent.nope_dim + latent.rope_dim ({} + {}); leave "
        "it out",
        attention.head_dim(), latent.nope_dim(), latent.rope_dim());
}

}  // namespace

void check_attention(const Model& model, Findings& findings) {
  check_heads(model, findings);
  check_position(model.attention(), findings);
  if (model.attention().has_latent()) check_latent(model.attention(), findings);
}

}  // namespace switchyard::config
