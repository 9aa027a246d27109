#include "models/lstm_lm.h"

#include <memory>
#include <optional>

#include "core/config/layers.h"
#include "core/tensor/aten.h"
#include "models/layers/dropout.h"
#include "models/layers/lstm.h"
#include "models/moe/moe_layer.h"

namespace switchyard::models {
namespace {

// Names of the random streams of dropout after LSTM layer i and after its mixture; the embedding's
// is 0.
uint32_t lstm_dropout(uint32_t i) { return 2 * i + 1; }
uint32_t moe_dropout(uint32_t i) { return 2 * i + 2; }

LstmSizes sizes_of(const config::Model& model) {
  const int64_t hidden = model.lstm().hidden();
  return {model.d_model(), hidden, hidden == model.d_model() ? 0 : model.d_model()};
}

// An LSTM and, in some layers, the mixture of experts behind it.
class LstmLayer : public Layer {
 public:
  LstmLayer(const Scope& scope, const config::Model& model, const parallel::Mesh& mesh,
            int64_t layer)
      : number_(static_cast<uint32_t>(layer)),
        dropout_(model.dropout()),
        lstm_((scope / "lstm").as(Role::kLstm), sizes_of(model), config::declared_init_std(model)) {
    if (config::is_moe_layer(model, layer))
      moe_.emplace(scope / "moe", model, mesh, number_, config::first_router(model, layer));
  }

  at::Tensor forward(const at::Tensor& x_TD, const Pass& pass, RoutingDecision& decision,
                     LayerState* state) const override {
    const auto drop = [&](const at::Tensor& y_TD, uint32_t stream) {
      return dropout(y_TD, dropout_, pass.context, stream);
    };
    const at::Tensor y_TD = lstm_.forward(x_TD, pass.attention.sequences, pass.documents_BS,
                                          state ? &state->lstm : nullptr);
    const at::Tensor h_TD = x_TD + drop(y_TD, lstm_dropout(number_));
    if (!moe_) return h_TD;
    const at::Tensor z_TD = moe_->forward(h_TD, pass.context, decision).sigmoid();
    return h_TD + drop(z_TD, moe_dropout(number_));
  }

 private:
  uint32_t number_;
  double dropout_;
  Lstm lstm_;
  std::optional<MoeLayer> moe_;
};

}  // namespace

LstmLm::LstmLm(const Scope& root, const config::Model& model, const parallel::Mesh& mesh,
               const Slice& held)
    : TextModel(root, model, mesh, held) {
  for (int64_t i = held.begin; i < held.end; ++i)
    layers_.push_back(std::make_unique<LstmLayer>(root / "layers" / i, model, mesh, i));
  if (has_head()) end_with(root, /*final_norm=*/std::nullopt);
}

Pass LstmLm::begin(const TokenBatch& batch, const StepContext& context, bool recompute) const {
  Pass pass = pass_over(batch.tokens_BS, context);
  pass.documents_BS = batch.documents_BS;
  pass.recompute = recompute;
  return pass;
}

Pass LstmLm::go_on(const at::Tensor& tokens_BS, const StepContext& context,
                   const TextState& state) const {
  return pass_over(tokens_BS, context, state.seen);
}

}  // namespace switchyard::models
