#include "models/lstm_lm.h"

#include <memory>

#include "core/config/layers.h"
#include "core/tensor/aten.h"
#include "core/tensor/ops.h"
#include "core/tensor/profiled_part.h"
#include "core/tensor/recompute.h"
#include "models/initializers.h"
#include "models/layers/dropout.h"
#include "models/layers/output_z_loss.h"
#include "models/layers/sampled_softmax.h"
#include "models/layers/vocabulary.h"

namespace switchyard::models {
namespace {

// Names of the random streams: dropout after the embedding, after LSTM layer i, after its mixture.
constexpr uint32_t kEmbeddingDropout = 0;
uint32_t lstm_dropout(size_t i) { return static_cast<uint32_t>(2 * i + 1); }
uint32_t moe_dropout(size_t i) { return static_cast<uint32_t>(2 * i + 2); }

LstmSizes sizes_of(const config::Model& model) {
  const int64_t hidden = model.lstm().hidden();
  return {model.d_model(), hidden, hidden == model.d_model() ? 0 : model.d_model()};
}

}  // namespace

struct LstmLm::Pass {
  const StepContext& context;
  int64_t sequences;
  at::Tensor documents_BS;  // undefined in generation
};

LstmLm::LstmLm(const Scope& root, const config::Model& model, const parallel::Mesh& mesh)
    : model_(model), embedding_(register_embedding(root, model)) {
  int64_t moe_index = 0;
  for (int64_t i = 0; i < model.num_layers(); ++i) {
    const Scope scope = root / "layers" / i;
    Layer& layer = layers_.emplace_back(Layer{
        Lstm((scope / "lstm").as(Role::kLstm), sizes_of(model), config::declared_init_std(model)),
        std::nullopt});
    if (!config::is_moe_layer(model, static_cast<int>(i))) continue;
    layer.moe.emplace(scope / "moe", model, mesh, static_cast<uint32_t>(i), moe_index++);
  }
  output_ = register_output(root, model);
}

at::Tensor LstmLm::run_layer(size_t i, const at::Tensor& x_TD, const Pass& pass, LstmState* state,
                             RoutingDecision& decision) const {
  const auto drop = [&](const at::Tensor& y_TD, uint32_t stream) {
    return dropout(y_TD, model_.dropout(), pass.context, stream);
  };
  const Layer& layer = layers_[i];
  const at::Tensor h_TD =
      x_TD +
      drop(layer.lstm.forward(x_TD, pass.sequences, pass.documents_BS, state), lstm_dropout(i));
  if (!layer.moe) return h_TD;
  return h_TD + drop(layer.moe->forward(h_TD, pass.context, decision).sigmoid(), moe_dropout(i));
}

at::Tensor LstmLm::embed(const at::Tensor& tokens_BS, const StepContext& context) const {
  return dropout(embedding(tokens_BS.flatten(), embedding_), model_.dropout(), context,
                 kEmbeddingDropout);
}

at::Tensor LstmLm::loss(const TokenBatch& batch, const StepContext& context, double scale,
                        const at::Tensor& nll, bool recompute) const {
  const StepContext with_ids = with_token_ids(context, batch.tokens_BS);
  const Pass pass{with_ids, batch.tokens_BS.size(0), batch.documents_BS};
  at::Tensor x_TD = embed(batch.tokens_BS, context);
  for (size_t i = 0; i < layers_.size(); ++i) {
    const auto decision = std::make_shared<RoutingDecision>();  // lives until the layer's backward
    if (recompute) {
      x_TD = switchyard::recompute(
          [this, i, with_ids, pass_sequences = pass.sequences, documents = pass.documents_BS,
           decision](const at::Tensor& x) {
            return run_layer(i, x, {with_ids, pass_sequences, documents}, nullptr, *decision);
          },
          x_TD);
    } else {
      x_TD = run_layer(i, x_TD, pass, nullptr, *decision);
    }
  }
  const ProfiledPart part("sy::loss");
  const at::Tensor hidden_TD = for_output(x_TD, model_);
  const at::Tensor targets_T = batch.targets_BS.flatten();
  const int64_t samples = model_.lstm().sampled_softmax();
  if (context.training && samples > 0) {
    return sampled_softmax_loss(hidden_TD, output_weight(), targets_T,
                                draw_candidates(model_.vocab_size(), samples, context), scale);
  }
  return vocabulary_loss(hidden_TD, output_weight(), targets_T, scale, nll,
                         output_z_loss(model_, context));
}

at::Tensor LstmLm::next_logits(const at::Tensor& tokens_BS, const StepContext& context,
                               std::vector<LstmState>& states) const {
  const int64_t sequences = tokens_BS.size(0), length = tokens_BS.size(1);
  states.resize(layers_.size());
  const StepContext with_ids = with_token_ids(context, tokens_BS);
  at::Tensor x_TD = embed(tokens_BS, context);
  for (size_t i = 0; i < layers_.size(); ++i) {
    RoutingDecision decision;
    x_TD = run_layer(i, x_TD, {with_ids, sequences, {}}, &states[i], decision);
  }
  const at::Tensor last = x_TD.view({sequences, length, -1}).select(1, length - 1);
  return vocabulary_logits(for_output(last, model_), output_weight());
}

}  // namespace switchyard::models
