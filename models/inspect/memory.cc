#include "models/inspect/memory.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include <fmt/format.h>

#include "core/config/layers.h"
#include "models/inspect/cost.h"
#include "models/inspect/stages.h"

namespace switchyard::models {
namespace {

// Bytes of an element: `plain` of the compute type, `attention` of what attention computes in,
// which LibTorch has no fast bfloat16 code for on processors without instructions for it.
struct ElementSizes {
  double plain, attention;
  bool converts() const { return attention != plain; }
};

ElementSizes element_sizes(const config::RunConfig& config) {
  const config::Attention& attention = config.model().attention();
  switch (config.runtime().compute()) {
    case config::BF16: {
      const bool narrow = config.runtime().bfloat16_products() == config::AS_FLOAT32 ||
                          attention.logit_cap() > 0 || attention.dropout() > 0;
      return {2, narrow ? 4.0 : 2.0};
    }
    case config::FP32:
      return {4, 4};
    default:
      return {8, 8};
  }
}

// What one rank computes in one micro-batch.
struct Load {
  const config::Model& model;
  ElementSizes element;
  double sequences, length, target;  // target: tokens of the decoder's side, or 0
  double held_experts;               // of a layer, on this rank
  double tensor;                     // ranks that see these tokens and share the matrices
  double expert_tensor;              // ranks that share each expert, and the rows of all of them

  double tokens() const { return sequences * length; }
  // This rank's share of the tokens' rows between the parts of a layer.
  double rows() const { return tokens() / tensor; }
};

Load load_of(const config::RunConfig& config, const MeshShape& mesh) {
  const config::Model& model = config.model();
  const SequenceLengths lengths = sequence_lengths(config);
  const double sequences = double{1} * config.train().global_batch() /
                           config.train().accumulation() / mesh.size(Axis::kData);
  return {model,
          element_sizes(config),
          std::max(1.0, sequences),
          static_cast<double>(lengths.sequence),
          static_cast<double>(lengths.target),
          double{1} * model.moe().num_experts() / mesh.size(Axis::kExpert),
          static_cast<double>(mesh.size(Axis::kTensor)),
          static_cast<double>(mesh.size(Axis::kExpertTensor))};
}

// What the first product of an FFN leaves for backward.
double saved_width(config::Ffn kind, double d_ff) {
  return config::is_gated(kind) ? 2 * d_ff : d_ff;
}

// What a sub-layer's norm keeps of a token, its input and its output, and what dropout of the
// sub-layer's output does.
double norm_bytes(const Load& load) {
  const double dropped = load.model.dropout() > 0 ? 2 : 0;
  return (2 + dropped) / load.tensor * load.element.plain * load.model.d_model();
}

// What matrices that are dealt over ranks keep of a token's row, which other ranks may have sent.
double gathered_bytes(const Load& load) {
  return load.tensor > 1 ? load.element.plain * load.model.d_model() : 0;
}

// The scores of one token against `visible` positions, for all heads, as they are computed.
double score_bytes(const Load& load, double visible) {
  return std::max(4.0, load.element.plain) * load.model.attention().num_heads() / load.tensor *
         visible;
}

// How often a layer keeps its scores for backward: not at all in the fused operation, which has no
// cap, no dropout and no gradient for a bias. Measured, as the plain formula's temporaries also
// stay in the heap.
double score_copies(const config::Attention& attention) {
  const bool cap = attention.logit_cap() > 0, dropout = attention.dropout() > 0;
  if (cap || dropout) return 2.0 + (cap ? 2 : 0) + (dropout ? 2 : 0);
  return attention.position() == config::RELATIVE_BIAS ? 3 : 0;
}

// What attention keeps of a token: queries, keys and values as projected, queries and keys again
// once they know their places, keys and values once more for every head, what attention computes in
// where that is another type, its output, and the scores where they are no part of one fused
// operation.
double attention_bytes(const Load& load, double visible) {
  const config::Attention& attention = load.model.attention();
  const double heads = attention.num_heads() / load.tensor * attention.head_dim();
  const double keys = std::max(1.0, attention.num_kv_heads() / load.tensor) * attention.head_dim();
  const double out = attention.num_heads() / load.tensor * config::value_width(attention);
  double plain = norm_bytes(load) / load.element.plain + heads + 2 * keys;
  if (attention.has_latent()) {
    plain += heads + 2.0 * (attention.latent().kv_rank() + attention.latent().q_rank());
  } else if (attention.position() == config::ROPE) {
    plain += heads + keys;
  }
  if (attention.qk_norm() > config::NO_QK_NORM) plain += 2 * (heads + keys);
  double converted = out;
  if (load.element.converts()) {
    plain += out;
    converted += heads + 2 * heads;
  } else if (heads > keys) {
    converted += 2 * heads;
  }
  return load.element.plain * plain + load.element.attention * converted + gathered_bytes(load) +
         score_copies(attention) * score_bytes(load, visible);
}

// The mask of a sequence, which each layer converts anew.
double mask_bytes(const Load& load) {
  return load.element.converts() ? load.element.attention * load.length * load.length : 0;
}

// The rows of all experts of a rank; each expert's are padded to a multiple of 32.
double expert_rows(const Load& load) {
  return load.model.moe().top_k() * load.rows() * load.expert_tensor + 16 * load.held_experts;
}

// What a MoE layer keeps: dispatched rows, the hidden layer's first product, rows come home, the
// router's float32 input and its probabilities, the shared expert.
double moe_bytes(const Load& load) {
  const config::Moe& moe = load.model.moe();
  const double d = load.model.d_model();
  const double hidden = double{1} * moe.d_ff() * moe.hidden_layers();
  const double shared = double{1} * moe.shared_expert().count() * moe.shared_expert().d_ff();
  const double per_row = d + (saved_width(moe.ffn(), hidden) + d) / load.expert_tensor;
  const double per_token =
      d + (shared > 0 ? d + saved_width(moe.shared_expert().ffn(), shared) : 0);
  constexpr double kRouter = 16;  // bytes of a token and expert: logits, probabilities, scores
  return load.element.plain * (expert_rows(load) * per_row + load.rows() * per_token) +
         4 * load.rows() * d + kRouter * load.tokens() * moe.num_experts() +
         (shared > 0 ? load.tokens() * gathered_bytes(load) : 0);
}

double dense_bytes(const Load& load) {
  const config::Model& model = load.model;
  return load.element.plain * load.rows() *
             (saved_width(model.ffn(), model.d_ff()) + model.d_model()) +
         load.tokens() * gathered_bytes(load);
}

double transformer_layer_bytes(const Load& load, int layer) {
  const config::Model& model = load.model;
  double bytes = load.tokens() * (attention_bytes(load, load.length) + norm_bytes(load)) +
                 load.sequences * mask_bytes(load);
  if (config::is_moe_layer(model, layer)) {
    bytes += moe_bytes(load);
    if (model.moe().stacking() != config::NO_STACKING)
      bytes += dense_bytes(load) + load.tokens() * norm_bytes(load);
  } else {
    bytes += dense_bytes(load);
  }
  return bytes;
}

// An LSTM layer keeps the four gates of every position, as products, as float32 and after their
// functions, and the states.
double lstm_layer_bytes(const Load& load, int layer) {
  const config::Model& model = load.model;
  const double hidden = model.lstm().hidden();
  const double gates = 4 * hidden * (3 * load.element.plain + 8);
  const double states = hidden * (6 * 4 + 3 * load.element.plain);
  const double bytes = load.tokens() * (gates + states + 3 * load.element.plain * model.d_model());
  return bytes + (config::is_moe_layer(model, layer) ? moe_bytes(load) : 0);
}

double local_experts_bytes(const Load& load) {
  const config::LocalExperts& experts = load.model.local_experts();
  return load.element.plain * load.tokens() * experts.num_experts() *
         (3.0 * experts.hidden_units() + 4.0 * load.model.vocab_size());
}

double layer_bytes(const Load& load, int layer) {
  return load.model.architecture() == config::LSTM_LM ? lstm_layer_bytes(load, layer)
                                                      : transformer_layer_bytes(load, layer);
}

// A stage of a pipeline.
struct Stage {
  Slice held;     // of the layers
  int in_flight;  // micro-batches between forward and backward

  bool holds(int layer, const config::Model& model) const {
    return layer < model.num_layers() ? held.contains(layer) : held.end == model.num_layers();
  }
};

// What all layers of a stage keep: an encoder's of the source's tokens, a decoder's of the target's
// where there is one.
double activations_of(const config::RunConfig& config, const Load& load, const Stage& stage) {
  const config::Model& model = load.model;
  if (model.architecture() == config::LOCAL_EXPERTS) return local_experts_bytes(load);
  double all = 0, largest = 0;
  const auto add = [&](const Load& part, int layer, double extra) {
    const double bytes = layer_bytes(part, layer) + extra;
    all += bytes;
    largest = std::max(largest, bytes);
  };
  const bool has_decoder = load.target > 0;
  Load decoder = load;
  decoder.length = load.target;
  const double cross = has_decoder ? decoder.tokens() * attention_bytes(decoder, load.length) : 0;
  for (int layer = 0; layer < config::num_stack_layers(model); ++layer) {
    if (!stage.holds(layer, model)) continue;
    const bool of_decoder = has_decoder && layer >= model.num_layers();
    add(of_decoder ? decoder : load, layer, of_decoder ? cross : 0);
  }
  if (model.has_mtp() && stage.holds(model.num_layers(), model))
    add(load, model.num_layers(), 4 * load.tokens() * norm_bytes(load));
  const bool recompute = config.train().recompute() == config::RECOMPUTE_LAYER;
  if (recompute) {
    all = load.element.plain * model.d_model() * static_cast<double>(stage.held.size()) *
          (load.rows() + decoder.rows());
  }
  const double outside = 3 * load.element.plain * model.d_model();
  const double masks =
      load.element.plain * load.sequences * (load.length * load.length + load.target * load.target);
  const double each =
      all + outside * (load.rows() + decoder.rows()) + (config::has_attention(model) ? masks : 0);
  return stage.in_flight * each + (recompute ? largest : 0);
}

double transient_of(const config::RunConfig& config, const Load& load, const Stage& stage) {
  const config::Model& model = load.model;
  const double tokens = load.target > 0 ? load.sequences * load.target : load.tokens();
  const double d = model.d_model(), vocabulary = model.vocab_size() / load.tensor;
  const bool narrow = config.runtime().compute() == config::BF16;
  const bool converts = config.runtime().bfloat16_products() == config::AS_FLOAT32;
  const double wide = std::max(4.0, load.element.plain);
  constexpr double kLogitRows = 256;  // see core/tensor/vocabulary_loss.cc
  double loss = kLogitRows * vocabulary * (wide + (narrow && !converts ? 2 : 0));
  loss += load.element.plain * tokens * d;  // the hidden state's gradient
  if (narrow) loss += (converts ? 2 : 1) * wide * (tokens + vocabulary) * d;
  const double rows = model.has_moe() ? expert_rows(load) : load.tokens();
  const double width =
      model.has_moe() ? model.moe().d_ff() / load.expert_tensor : model.d_ff() / load.tensor;
  const double ffn = load.element.plain * (2 * rows * d + 3 * load.tokens() * d +
                                           3 * rows * width / std::max(1.0, load.held_experts));
  // Gradients of the scores and of what they become.
  const bool keeps_scores = config::has_attention(model) && score_copies(model.attention()) > 0;
  const double scores = keeps_scores ? 2 * load.tokens() * score_bytes(load, load.length) : 0;
  return std::max({stage.holds(model.num_layers(), model) ? loss : 0, ffn, scores});
}

// Ranks that hold the same take turns at what they write; of experts the fewest do. A sharded
// optimizer's ranks write what they own.
double saving_of(const config::RunConfig& config, const MeshShape& mesh, const Memory& kept) {
  if (!config.checkpoint().asynchronous()) return 0;
  const int holders = config.optimizer().sharded()
                          ? 1
                          : mesh.size(config.model().has_moe() ? Axis::kExpertData : Axis::kData);
  const int64_t weights = kept.master_bytes > 0 ? kept.master_bytes : kept.value_bytes;
  return static_cast<double>(weights + kept.moment_bytes) / holders;
}

bool uses_onednn(const config::RunConfig& config) {
  const config::Runtime& runtime = config.runtime();
  const bool in_bfloat16 =
      runtime.compute() == config::BF16 && runtime.bfloat16_products() != config::AS_FLOAT32;
  return in_bfloat16 ||
         (runtime.compute() != config::FP64 && runtime.float32_products() == config::ONEDNN);
}

// oneDNN builds a kernel for every new shape and keeps the last 1024. Rows of an expert come in
// multiples of 32, and their number moves about the mean; each number has six products, forward and
// backward.
double kernel_bytes(const config::RunConfig& config, const Load& load) {
  if (!load.model.has_moe() || !uses_onednn(config)) return 0;
  constexpr double kProducts = 6, kBucket = 32, kSpread = 0.75;  // kSpread: measured
  constexpr double kKernel = 0.6 * (1 << 20), kMost = 1024;
  const config::Moe& moe = load.model.moe();
  const double rows = moe.top_k() * load.rows() * load.expert_tensor / moe.num_experts();
  return kKernel * std::min(kMost, kProducts * std::ceil(kSpread * rows / kBucket));
}

}  // namespace

double MemoryPlan::total() const {
  return static_cast<double>(parameters.total_bytes()) + activations + transient + saving +
         batches + program;
}

MemoryPlan memory_plan(const config::RunConfig& config, const MeshShape& mesh) {
  const Load load = load_of(config, mesh);
  constexpr double kBytesPerToken = 12, kSteps = 4;  // id, target, document; steps ahead
  constexpr double kProgram = 40 << 20;
  const int micro_batches = std::max(1, config.train().accumulation());
  const double tokens = (load.tokens() + load.sequences * load.target) * micro_batches;
  const int stages = mesh.size(Axis::kPipeline);
  std::vector<MemoryPlan> plans;
  for (const Slice& held : stage_layers(config, stages)) {
    const auto index = static_cast<int>(plans.size());
    const Stage stage{held, std::min(stages - index, micro_batches)};
    const Memory kept = memory_per_rank(config, mesh, index, held);
    plans.push_back({kept, activations_of(config, load, stage), transient_of(config, load, stage),
                     saving_of(config, mesh, kept), kBytesPerToken * kSteps * tokens,
                     kProgram + kernel_bytes(config, load)});
  }
  return *std::ranges::max_element(plans, {}, &MemoryPlan::total);
}

std::string format_bytes(double bytes) {
  constexpr double kMebibyte = 1 << 20, kGibibyte = 1 << 30;
  return bytes < kGibibyte ? fmt::format("{:.1f} MiB", bytes / kMebibyte)
                           : fmt::format("{:.2f} GiB", bytes / kGibibyte);
}

std::string describe_memory(const config::RunConfig& config, const MemoryPlan& plan) {
  const Memory& kept = plan.parameters;
  const bool recompute = config.train().recompute() == config::RECOMPUTE_LAYER;
  std::string text;
  const auto line = [&](const std::string& name, double bytes, const std::string& remark = "") {
    if (bytes == 0) return;
    text += fmt::format("  {:<20}{:>22}{}\n", name, format_bytes(bytes),
                        remark.empty() ? "" : "  (" + remark + ")");
  };
  line("parameters", static_cast<double>(kept.value_bytes),
       config::ComputeType_Name(config.runtime().compute()));
  line("master weights", static_cast<double>(kept.master_bytes));
  line("gradients", static_cast<double>(kept.gradient_bytes));
  line("moments", static_cast<double>(kept.moment_bytes));
  line("activations", plan.activations,
       fmt::format("of {} of {} sequences on all ranks{}",
                   config.mesh().pipeline() > 1 ? "the micro-batches in flight" : "one micro-batch",
                   config.train().global_batch() / config.train().accumulation(),
                   recompute ? ", with recompute" : ""));
  line("logits, gradients", plan.transient, "for a moment");
  line("copies", plan.saving, "for a save in the background");
  line("batches", plan.batches);
  line("libraries", plan.program);
  line("all", plan.total());
  return text;
}

}  // namespace switchyard::models
