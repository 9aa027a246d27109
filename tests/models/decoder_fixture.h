#pragma once
// A tiny decoder, or another model, in float64, and tokens for it.

#include <memory>
#include <string>
#include <vector>

#include "core/config/reader.h"
#include "core/tensor/aten.h"
#include "models/model.h"
#include "models/pass/stats.h"
#include "parallel/single.h"
#include "tests/testing/tiny_model.h"

namespace switchyard::models {

constexpr int64_t kRows = 2, kLength = 12, kVocab = 32;

struct DecoderInstance {
  explicit DecoderInstance(const config::Model& config)
      : world(parallel::make_single()),
        mesh(*world, MeshShape()),
        model(Scope(table), config, mesh) {
    table.allocate(at::kDouble);
    table.initialize(5);
  }

  StepContext context_of(const TokenBatch& batch, bool training) const {
    StepContext context;
    context.training = training;
    context.key.seed = seed;
    context.key.step = step;
    context.group_tokens = kLength;
    context.count.in_step = context.count.in_micro_batch = batch.tokens_BS.numel();
    return context;
  }
  // The step's mean loss; `sums` and `routers` receive what else it is made of.
  at::Tensor loss(const TokenBatch& batch, bool training = true,
                  parallel::NamedSums* sums = nullptr,
                  std::vector<RoutingSums>* routers = nullptr) const {
    StepContext context = context_of(batch, training);
    context.sums = sums;
    context.routing.sums = routers;
    return model.loss(batch, context, 1.0 / static_cast<double>(batch.tokens_BS.numel()), false);
  }
  // Each token's.
  at::Tensor losses(const TokenBatch& batch, bool training = true) const {
    return model.losses(batch, context_of(batch, training)).view(batch.tokens_BS.sizes());
  }
  at::Tensor hidden_states(const TokenBatch& batch, int64_t layers) const {
    const at::NoGradGuard no_grad;
    const TextModel& text = model.text();
    const Pass pass = text.begin(batch, context_of(batch, false), /*recompute=*/false);
    return text.run({0, layers}, text.embed(pass), pass);
  }
  at::Tensor next_logits(const at::Tensor& tokens_BS, TextState& state) const {
    const at::NoGradGuard no_grad;
    StepContext context;
    context.group_tokens = tokens_BS.size(1);
    return model.text().next_logits(tokens_BS, context, state);
  }

  std::unique_ptr<parallel::Communicator> world;
  parallel::Mesh mesh;
  ParameterTable table;
  Model model;
  uint64_t seed = 0;  // of the next pass
  int64_t step = 0;
};

// A model by its text, resolved as a run's is.
inline config::Model model_of(const std::string& text) {
  const bool is_normal = text.find("TRUNCATED_NORMAL") == std::string::npos;
  return config::load_config_text(
             std::string("model { num_layers: 2 d_model: 16 vocab_size: 32 ") +
                 (is_normal ? "init_std: 0.2 scale_init_by_depth: false " : "") + text +
                 " } data { synthetic {} } train { steps: 1 global_batch: 1 }",
             "decoder_fixture")
      .model();
}

// Every row is one document; the target is the next token, with one position of no loss per row.
inline TokenBatch batch() {
  const at::Tensor stream =
      (at::arange(kRows * (kLength + 1), at::kLong) * 7 % kVocab).view({kRows, kLength + 1});
  TokenBatch batch{stream.slice(1, 0, kLength).clone(), stream.slice(1, 1).clone(),
                   at::zeros({kRows, kLength}, at::kInt)};
  batch.targets_BS.select(1, 4).fill_(-1);
  return batch;
}

}  // namespace switchyard::models
