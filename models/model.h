#pragma once
// Any of the architectures behind one interface; model.architecture chooses.

#include <variant>
#include <vector>

#include <ATen/core/Tensor.h>

#include "core/config/run_config.pb.h"
#include "core/tensor/parameter.h"
#include "models/batch.h"
#include "models/decoder.h"
#include "models/encoder_decoder.h"
#include "models/local_experts.h"
#include "models/lstm_lm.h"
#include "parallel/mesh.h"

namespace switchyard::models {

// That of runtime.compute.
at::ScalarType compute_type(const config::RunConfig& config);

class Model {
 public:
  // Registers all parameters below `root`, with the initialisation that the config asks for. Their
  // table must outlive the model, as must the mesh.
  Model(const Scope& root, const config::Model& model, const parallel::Mesh& mesh);

  // This rank's share of the step's loss: `scale` * sum over targets, a differentiable scalar. nll
  // (may be undefined; [B*S], float32 or float64) receives each target's loss.
  // **Collective** over the mesh. recompute: run each layer again in backward.
  at::Tensor loss(const TokenBatch& batch, const StepContext& context, double scale,
                  const at::Tensor& nll, bool recompute) const;

  // What generation carries from one call to the next; empty at the beginning.
  using State = std::variant<std::monostate, std::vector<KvCache>, std::vector<LstmState>,
                             EncoderDecoder::State>;
  // Whether the prompt is read by encode(), and not by next_logits() like what follows it.
  bool has_encoder() const { return std::holds_alternative<EncoderDecoder>(model_); }
  // The state after a prompt, source [B, M] int64. **Collective** as next_logits(). Requires:
  // has_encoder().
  State encode(const at::Tensor& source_BM, const StepContext& context) const;
  // Logits of the last position, [B, V] float32, of tokens [B, S] int64 that go on from the state.
  // **Collective** over the mesh's expert group. ConfigError for an architecture without text.
  at::Tensor next_logits(const at::Tensor& tokens_BS, const StepContext& context,
                         State& state) const;
  // The positions of a text that it can read, prompt and continuation together; the greatest int64
  // where nothing limits them.
  int64_t longest_text() const;

 private:
  std::variant<Decoder, EncoderDecoder, LstmLm, LocalExperts> model_;
};

}  // namespace switchyard::models
