#include "models/model.h"

#include "core/base/errors.h"
#include "core/tensor/aten.h"
#include "models/decoder.h"
#include "models/encoder_decoder.h"
#include "models/initializers.h"
#include "models/lstm_lm.h"
#include "models/next_token.h"
#include "models/sampled_softmax.h"

namespace switchyard::models {
namespace {

// Null: the architecture is not of text.
std::unique_ptr<TextModel> make_text_model(const Scope& root, const config::Model& model,
                                           const parallel::Mesh& mesh, const Slice& held) {
  switch (model.architecture()) {
    case config::LOCAL_EXPERTS:
      return nullptr;
    case config::ENCODER_DECODER:
      return std::make_unique<EncoderDecoder>(root, model, mesh);
    case config::LSTM_LM:
      return std::make_unique<LstmLm>(root, model, mesh, held);
    default:
      return std::make_unique<Decoder>(root, model, mesh, held);
  }
}

}  // namespace

at::ScalarType compute_type(const config::RunConfig& config) {
  switch (config.runtime().compute()) {
    case config::BF16:
      return at::kBFloat16;
    case config::FP64:
      return at::kDouble;
    default:
      return at::kFloat;
  }
}

Model::Model(const Scope& root, const config::Model& model, const parallel::Mesh& mesh,
             const Slice& held)
    : text_(make_text_model(root, model, mesh, held)) {
  if (!text_) local_experts_.emplace(root, model);
  choose_initializers(model, root.parameters());
}

at::Tensor text_loss(const TextModel& model, const at::Tensor& x_TD, const TokenBatch& batch,
                     const Pass& pass, double scale) {
  const bool samples = pass.context.training && model.config().lstm().sampled_softmax() > 0;
  const auto objective = samples ? sampled_softmax_loss : next_token_loss;
  return objective(model, x_TD, batch, pass, scale);
}

at::Tensor Model::forward(const at::Tensor& x_TD, const TokenBatch& batch,
                          const StepContext& context, double scale, bool recompute) const {
  if (local_experts_) return local_experts_->case_errors(batch, context).sum() * scale;
  const Pass pass = text_->begin(batch, context, recompute);
  const at::Tensor y_TD = text_->advance(x_TD, pass);
  return text_->has_head() ? text_loss(*text_, y_TD, batch, pass, scale) : y_TD;
}

at::Tensor Model::losses(const TokenBatch& batch, const StepContext& context) const {
  const at::NoGradGuard no_grad;
  if (local_experts_) return local_experts_->case_errors(batch, context);
  const Pass pass = text_->begin(batch, context, /*recompute=*/false);
  const at::Tensor x_TD = text_->advance_through_stages(pass);
  return text_->has_head() ? next_token_losses(*text_, x_TD, batch, pass) : at::Tensor();
}

const TextModel& Model::text() const {
  if (!text_)
    throw ConfigError(
        "model.architecture (LOCAL_EXPERTS) classifies cases and writes no text; use `switchyard "
        "eval`");
  return *text_;
}

}  // namespace switchyard::models
