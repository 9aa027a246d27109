#include "models/model.h"

#include <limits>

#include "core/base/errors.h"
#include "models/initializers.h"

namespace switchyard::models {
namespace {

std::variant<Decoder, EncoderDecoder, LstmLm, LocalExperts> make(const Scope& root,
                                                                 const config::Model& model,
                                                                 const parallel::Mesh& mesh) {
  switch (model.architecture()) {
    case config::ENCODER_DECODER:
      return EncoderDecoder(root, model, mesh);
    case config::LSTM_LM:
      return LstmLm(root, model, mesh);
    case config::LOCAL_EXPERTS:
      return LocalExperts(root, model);
    default:
      return Decoder(root, model, mesh);
  }
}

// The state as this architecture's kind.
template <typename T>
T& as(Model::State& state) {
  if (std::holds_alternative<std::monostate>(state)) state = T{};
  return std::get<T>(state);
}

// One overload per architecture, for std::visit.
template <typename... F>
struct Overloads : F... {
  using F::operator()...;
};
template <typename... F>
Overloads(F...) -> Overloads<F...>;

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

Model::Model(const Scope& root, const config::Model& model, const parallel::Mesh& mesh)
    : model_(make(root, model, mesh)) {
  choose_initializers(model, root.parameters());
}

at::Tensor Model::loss(const TokenBatch& batch, const StepContext& context, double scale,
                       const at::Tensor& nll, bool recompute) const {
  return std::visit(
      Overloads{
          [&](const LocalExperts& model) { return model.loss(batch, context, scale, nll); },
          [&](const auto& model) { return model.loss(batch, context, scale, nll, recompute); }},
      model_);
}

Model::State Model::encode(const at::Tensor& source_BM, const StepContext& context) const {
  return std::get<EncoderDecoder>(model_).encode(source_BM, context);
}

at::Tensor Model::next_logits(const at::Tensor& tokens_BS, const StepContext& context,
                              State& state) const {
  return std::visit(
      Overloads{[&](const Decoder& model) {
                  return model.next_logits(tokens_BS, context, as<std::vector<KvCache>>(state));
                },
                [&](const EncoderDecoder& model) {
                  return model.next_logits(tokens_BS, context, as<EncoderDecoder::State>(state));
                },
                [&](const LstmLm& model) {
                  return model.next_logits(tokens_BS, context, as<std::vector<LstmState>>(state));
                },
                [&](const LocalExperts&) -> at::Tensor {
                  throw ConfigError(
                      "model.architecture (LOCAL_EXPERTS) classifies cases and writes no text; "
                      "use `switchyard eval`");
                }},
      model_);
}

int64_t Model::longest_text() const {
  const auto* decoder = std::get_if<Decoder>(&model_);
  return decoder ? decoder->longest_text() : std::numeric_limits<int64_t>::max();
}

}  // namespace switchyard::models
