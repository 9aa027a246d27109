#pragma once
// The decoder-only transformer: embedding, pre-norm layers of attention and FFN (dense or MoE),
// final norm, vocabulary.

#include <cstdint>
#include <optional>
#include <vector>

#include <ATen/core/Tensor.h>

#include "core/config/run_config.pb.h"
#include "core/tensor/parameter.h"
#include "models/batch.h"
#include "models/decoder_layer.h"
#include "models/layers/attention.h"
#include "models/layers/norm.h"
#include "models/mtp.h"
#include "parallel/mesh.h"

namespace switchyard::models {

class Decoder {
 public:
  // Registers all parameters in `table`, which must outlive the decoder, as must the mesh.
  Decoder(const Scope& root, const config::Model& model, const parallel::Mesh& mesh);

  // This rank's share of the step's language-model loss: `scale` * sum of -log p(target), a
  // differentiable scalar. The output's auxiliary losses join its gradient, not its value.
  // **Collective** over the mesh. `nll` as in vocabulary_loss(). recompute: run each layer again in
  // backward.
  at::Tensor loss(const TokenBatch& batch, const StepContext& context, double scale,
                  const at::Tensor& nll, bool recompute) const;

  // Logits of the last position, [B, V] float32, appending to `caches` (one per layer).
  // **Collective** over the mesh's expert group. tokens [B, S] int64 continue what the caches hold.
  at::Tensor next_logits(const at::Tensor& tokens_BS, const StepContext& context,
                         std::vector<KvCache>& caches) const;

  // The positions of a text that it can read; the greatest int64 where nothing limits them.
  int64_t longest_text() const;

 private:
  at::Tensor embed(const at::Tensor& tokens) const;
  // The same of tokens [B, S] at positions seen .. seen + S - 1, with what the model has learned of
  // these; ConfigError for a position that their table lacks.
  at::Tensor embed_from(int64_t seen, const at::Tensor& tokens_BS) const;
  // What the output matrix is multiplied with, from the output of a final norm.
  at::Tensor hidden(const at::Tensor& normed_TD) const;
  // Positions seen .. seen + length - 1 of each of `sequences`, without a mask.
  AttentionInput input_at(int64_t sequences, int64_t seen, int64_t length) const;
  struct Training {
    double scale;
    bool recompute;
  };
  // The loss of multi-token prediction, times its weight, from the output of the last layer.
  at::Tensor mtp_loss(const TokenBatch& batch, const at::Tensor& x_TD, const AttentionInput& input,
                      const StepContext& context, const Training& training) const;
  at::Tensor run_layers(at::Tensor x_TD, const AttentionInput& input, const StepContext& context,
                        bool recompute) const;
  Parameter& output_weight() const { return output_ ? *output_ : embedding_; }

  config::Model model_;
  Parameter& embedding_;
  Parameter* position_embedding_ = nullptr;  // null: positions are not learned vectors
  Parameter* relative_bias_ = nullptr;       // null: there is none, or each layer has its own
  std::vector<DecoderLayer> layers_;
  Norm final_norm_;
  std::optional<MultiTokenPrediction> mtp_;
  Parameter* output_ = nullptr;  // null: tied to the embedding
};

}  // namespace switchyard::models
