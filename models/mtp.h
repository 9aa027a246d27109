#pragma once
// Multi-token prediction of depth 1 (DeepSeek-V3, section 2.2): from the last layer's output h_i
// and the next token t_{i+1}, one more layer predicts the token after the next,
//     h'_i = layer(M [norm(h_i); norm(embedding(t_{i+1}))]),  p(t_{i+2}) = softmax(W norm(h'_i)),
// with embedding and output matrix W of the model itself. For training alone.

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "core/config/run_config.pb.h"
#include "core/tensor/parameter.h"
#include "models/batch.h"
#include "models/decoder_layer.h"
#include "models/layers/dense.h"
#include "models/layers/norm.h"
#include "parallel/mesh.h"

namespace switchyard::models {

// What is asked at each position, [B, S] int64.
struct NextTokens {
  at::Tensor next_BS;     // the next token, also that of another document; 0 where there is none
  at::Tensor targets_BS;  // the token after it; -1 where there is none or a document ends between
};
NextTokens next_tokens(const TokenBatch& batch);

class MultiTokenPrediction {
 public:
  // Registers <scope>.hidden_norm, <scope>.embedding_norm, <scope>.projection [D, 2D],
  // <scope>.layer and <scope>.final_norm. The layer is like one more of the model's, behind its
  // last. relative_bias: as DecoderLayer's.
  MultiTokenPrediction(const Scope& scope, const config::Model& model, const parallel::Mesh& mesh,
                       Parameter* relative_bias);

  // From the rows of the model's last layer, before its final norm, and the embeddings of the next
  // tokens, both [T, D], the rows of this layer, which the model's head behind final_norm() reads.
  // `pass` is the model's, with the ids of the next tokens. **Collective** over the mesh.
  at::Tensor forward(const at::Tensor& hidden_TD, const at::Tensor& next_TD,
                     const Pass& pass) const;
  const Norm& final_norm() const { return final_norm_; }

 private:
  Norm hidden_norm_, embedding_norm_;
  Dense projection_;
  int64_t number_;  // of the layer, behind the model's own
  DecoderLayer layer_;
  Norm final_norm_;
};

}  // namespace switchyard::models
