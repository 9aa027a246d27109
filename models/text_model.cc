#include "models/text_model.h"

#include "core/base/errors.h"
#include "core/tensor/aten.h"
#include "core/tensor/device_ops.h"
#include "parallel/collectives.h"

namespace switchyard::models {
namespace {

// A table that is read at both ends of a pipeline is one parameter, which the first stage and the
// last hold: its gradient is the sum of theirs.
void share_between_ends(Parameter& table, bool is_last) {
  Place& stages = table.layout[Axis::kPipeline];
  if (stages.size == 1) return;
  table.summed.insert(Axis::kPipeline);
  stages = {is_last ? 1 : 0, 2};
}

int64_t bytes_of(const at::Tensor& tensor) { return static_cast<int64_t>(tensor.nbytes()); }

}  // namespace

TextModel::TextModel(const Scope& root, const config::Model& model, const parallel::Mesh& mesh,
                     const Slice& held)
    : config_(model),
      held_(held),
      parameters_(&root.parameters()),
      tensor_(&mesh.tensor()),
      pipeline_(&mesh.pipeline()) {
  const bool head_embeds = model.tie_embeddings() || model.has_mtp();
  if (held.begin == 0 || (has_head() && head_embeds)) embedding_.emplace(root, model);
  if (embedding_ && head_embeds) share_between_ends(embedding_->weight(), has_head());
}

void TextModel::end_with(const Scope& root, const std::optional<Norm>& final_norm,
                         const HeadDropout& dropout) {
  Parameter& weight =
      config_.tie_embeddings() ? embedding_->weight() : register_output(root, config_);
  head_.emplace(config_, final_norm, weight, dropout);
}

Pass TextModel::pass_over(const at::Tensor& tokens_BS, const StepContext& context,
                          int64_t seen) const {
  Pass pass;
  pass.context = with_token_ids(context, tokens_BS);
  pass.context.rows = Rows(*tensor_, tokens_BS.numel());
  pass.attention.sequences = tokens_BS.size(0);
  pass.attention.length = tokens_BS.size(1);
  pass.attention.rows = pass.context.rows;
  pass.seen = seen;
  return pass;
}

at::TensorOptions TextModel::compute_options() const {
  return parameters_->parameters().front().value.options();
}

at::Tensor TextModel::embed(const Pass& pass) const {
  return embedding_->forward(pass.context, /*stream=*/0);
}

at::Tensor TextModel::run(const Slice& layers, at::Tensor x_TD, const Pass& pass) const {
  for (int64_t number = layers.begin; number < layers.end; ++number) {
    const int64_t i = number - held_.begin;
    LayerState* state = pass.states.empty() ? nullptr : &pass.states[i];
    x_TD = run_layer(*layers_[i], number, x_TD, pass, state);
  }
  return x_TD;
}

at::Tensor TextModel::advance(const at::Tensor& x_TD, const Pass& pass) const {
  return run(held_, held_.begin == 0 ? embed(pass) : x_TD, pass);
}

at::Tensor TextModel::empty_rows(int64_t tokens) const {
  return at::empty({parallel::share_of_rows(tokens, *tensor_).size(), config_.d_model()},
                   compute_options());
}

at::Tensor TextModel::advance_through_stages(const Pass& pass) const {
  const parallel::Pipeline& pipeline = *pipeline_;
  at::Tensor x_TD;
  if (!pipeline.is_first()) {
    x_TD = empty_rows(pass.context.token_ids_T.numel());
    pipeline.rows_in().receive(x_TD.mutable_data_ptr(), bytes_of(x_TD), "rows");
  }
  x_TD = advance(x_TD, pass).contiguous();
  if (!pipeline.is_last())
    pipeline.rows_out().start_send(x_TD.const_data_ptr(), bytes_of(x_TD), "rows")->wait();
  return x_TD;
}

TextState TextModel::encode(const at::Tensor&, const StepContext&) const {
  SY_CHECK(false, "only an encoder-decoder encodes a prompt");
}

at::Tensor TextModel::next_logits(const at::Tensor& tokens_BS, const StepContext& context,
                                  TextState& state) const {
  Pass pass = go_on(tokens_BS, context, state);
  state.layers.resize(layers_.size());
  pass.states = state.layers;
  const at::Tensor share_TD = advance_through_stages(pass);
  const int64_t sequences = tokens_BS.size(0), length = tokens_BS.size(1);
  state.seen += length;
  at::Tensor logits_BV;
  if (has_head()) {
    const at::Tensor x_TD = pass.context.rows.gather(share_TD);
    logits_BV =
        head_->logits(x_TD.view({sequences, length, -1}).select(1, length - 1), pass.context);
  }
  return pipeline_->place().size == 1 ? logits_BV : from_last_stage(logits_BV, sequences);
}

at::Tensor TextModel::from_last_stage(const at::Tensor& logits_BV, int64_t sequences) const {
  const at::TensorOptions options = compute_options();
  const at::ScalarType type = exact_type(c10::typeMetaToScalarType(options.dtype()));
  const at::Tensor received_BV =
      has_head() ? logits_BV.contiguous()
                 : at::empty({sequences, config_.vocab_size()}, options.dtype(type));
  pipeline_->stages().broadcast(received_BV.mutable_data_ptr(), bytes_of(received_BV),
                                pipeline_->place().size - 1, "logits");
  return received_BV;
}

}  // namespace switchyard::models
