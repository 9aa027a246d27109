#pragma once
// A model of text: an embedding, layers and a head, with joints between them, so that a part of the
// model can run alone, or be all that a rank holds. Decoder, encoder-decoder and LSTM differ in
// their layers and in what these share during a pass.

#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

#include <ATen/core/Tensor.h>

#include "core/base/layout.h"
#include "core/config/run_config.pb.h"
#include "core/tensor/parameter.h"
#include "models/batch.h"
#include "models/head.h"
#include "models/layer.h"
#include "models/layers/vocabulary.h"
#include "models/mtp.h"

namespace switchyard::models {

// What generation carries from one call to the next; empty at the beginning of a text.
struct TextState {
  std::vector<LayerState> layers;  // of those held here
  int64_t seen = 0;                // positions read so far
  at::Tensor memory_TD;            // the encoder's output; undefined without an encoder
};

// A micro-batch takes three calls: begin(), advance() and an objective on the rows that come out. A
// model whose layers lie on several ranks, the stages of a pipeline, takes advance() on each, and
// the objective where the head is.
class TextModel {
 public:
  virtual ~TextModel() = default;
  TextModel(const TextModel&) = delete;
  TextModel& operator=(const TextModel&) = delete;

  const config::Model& config() const { return config_; }
  // The layers that are here, of config().num_layers(). The first brings the embedding, the last
  // the head.
  const Slice& held() const { return held_; }
  bool has_head() const { return held_.end == config_.num_layers(); }
  // Requires: the first layer is held, or the last one in a model whose head or multi-token
  // prediction reads the table too.
  const TokenEmbedding& embedding() const { return *embedding_; }
  // Requires: has_head().
  const Head& head() const { return *head_; }
  // Null: the model has none, or it is not here.
  const MultiTokenPrediction* mtp() const { return mtp_ ? &*mtp_ : nullptr; }

  // What the layers share in a pass over a micro-batch. Runs the encoder, where there is one, and
  // is **collective** over the mesh then.
  virtual Pass begin(const TokenBatch& batch, const StepContext& context, bool recompute) const = 0;
  // This rank's share of the rows [B*S, D] of the pass's tokens that the model's first layer reads.
  virtual at::Tensor embed(const Pass& pass) const;
  // Runs `layers`, which must be held: takes this rank's share of the rows [B*S, D] that enter
  // them, returns its share of those that leave. **Collective** over the mesh.
  at::Tensor run(const Slice& layers, at::Tensor x_TD, const Pass& pass) const;
  // Runs all layers held. Where the model's first is among them, it embeds the pass's tokens and
  // does not read `x_TD`. **Collective** over the mesh.
  at::Tensor advance(const at::Tensor& x_TD, const Pass& pass) const;
  // Room for this rank's share of the rows [tokens, D] between layers, in the compute type.
  at::Tensor empty_rows(int64_t tokens) const;
  // advance() on all stages, outside autograd: receives the rows from the stage before and sends
  // them to the one behind. Returns the rows of the last layer where that is held, others where it
  // is not. **Collective** over the mesh.
  at::Tensor advance_through_stages(const Pass& pass) const;

  // Whether a prompt is read by encode(), and not by next_logits() like what follows it.
  virtual bool has_encoder() const { return false; }
  // The state after a prompt, source [B, M] int64. **Collective** over the mesh's expert group.
  // Requires: has_encoder().
  virtual TextState encode(const at::Tensor& source_BM, const StepContext& context) const;
  // Logits of the last position, [B, V] float32 (float64), of tokens [B, S] int64 that go on from
  // the state; on every rank. **Collective** over the mesh.
  at::Tensor next_logits(const at::Tensor& tokens_BS, const StepContext& context,
                         TextState& state) const;
  // The positions of a text that the model can read, prompt and continuation together; the greatest
  // int64 where nothing limits them.
  virtual int64_t longest_text() const { return std::numeric_limits<int64_t>::max(); }

 protected:
  // Registers <root>.embedding, if it is held: a table of both ends, if the last stage reads it
  // too. Derived classes register their layers in `layers_`, then call end_with() if has_head().
  TextModel(const Scope& root, const config::Model& model, const parallel::Mesh& mesh,
            const Slice& held);
  // Registers the matrix of the logits where it is not the embedding's.
  void end_with(const Scope& root, const std::optional<Norm>& final_norm,
                const HeadDropout& dropout = {});

  // The pass over tokens [B, S] int64 at positions seen .. seen + S - 1 of their texts, without
  // masks and tables of positions.
  Pass pass_over(const at::Tensor& tokens_BS, const StepContext& context, int64_t seen = 0) const;
  // What the layers share in a pass over tokens [B, S] that go on from `state`.
  virtual Pass go_on(const at::Tensor& tokens_BS, const StepContext& context,
                     const TextState& state) const = 0;

  // The compute type and the device. Requires: the parameters are allocated.
  at::TensorOptions compute_options() const;

  config::Model config_;
  Slice held_;
  std::optional<TokenEmbedding> embedding_;
  Layers layers_;
  std::optional<MultiTokenPrediction> mtp_;

 private:
  // The logits [sequences, V] that the last stage has, on every stage. **Collective** over them.
  at::Tensor from_last_stage(const at::Tensor& logits_BV, int64_t sequences) const;

  const ParameterTable* parameters_;
  parallel::Communicator* tensor_;  // the ranks that see the same tokens
  const parallel::Pipeline* pipeline_;
  std::optional<Head> head_;
};

}  // namespace switchyard::models
