// What of architectures, attention, data and optimizers does not go together.

#include "core/config/compatibility.h"

namespace switchyard::config {
namespace {

constexpr const char* kArchitecture = "model.architecture";
constexpr const char* kMoe = "model.moe";
constexpr const char* kPosition = "model.attention.position";
constexpr const char* kLatent = "model.attention.latent";
constexpr const char* kSwitchProjections = "model.attention.switch_projections";
constexpr const char* kSampledSoftmax = "model.lstm.sampled_softmax";
constexpr const char* kInitializer = "model.initializer";
constexpr const char* kOutputZLoss = "model.output_z_loss_coefficient";
constexpr const char* kObjective = "data.objective";
constexpr const char* kTable = "data.table";
constexpr const char* kSynthetic = "data.synthetic";
constexpr const char* kKind = "optimizer.kind";
constexpr const char* kSchedule = "optimizer.schedule";

constexpr Term kT5{kArchitecture, "ENCODER_DECODER"};
constexpr Term kEarly{kArchitecture, "LSTM_LM or LOCAL_EXPERTS"};
constexpr Term kLocalExperts{kArchitecture, "LOCAL_EXPERTS"};
constexpr Term kDense{kMoe, "unset"};
constexpr Term kWithLatent{kLatent, "set"};

constexpr const char* kNoNorms = "it has no norms";
constexpr const char* kOfT5 = "its attention is T5's, which has none";
constexpr const char* kOneOfThem = "leave one of them out";

constexpr Rule kOwned[] = {
    Rule({"model.lstm", "unset"}, {{kArchitecture, "not LSTM_LM"}}),
    Rule({"model.mtp", "unset"}, {{kArchitecture, "not DECODER"}}),
    Rule({"model.local_experts", "unset"}, {{kArchitecture, "not LOCAL_EXPERTS"}}),
    Rule({kTable, "unset"}, {{kArchitecture, "not LOCAL_EXPERTS"}}),
    Rule({"train.stop_below_error", "0"}, {{kArchitecture, "not LOCAL_EXPERTS"}}),
    Rule({"model.dropout", "0"}, {{kArchitecture, "DECODER or LOCAL_EXPERTS"}}),
    Rule({kObjective, "NEXT_TOKEN"}, {{kArchitecture, "DECODER or LSTM_LM"}}),
    Rule({kObjective, "SPAN_CORRUPTION or TRANSLATION"}, kT5),
    Rule({kObjective, "CLASSIFICATION"}, kLocalExperts),
};

constexpr Rule kAttentions[] = {
    Rule({"model.attention.relative_bias", "unset"}, {{kPosition, "not RELATIVE_BIAS"}}),
    Rule({"model.attention.yarn", "unset"}, {{kPosition, "not ROPE"}}, "it stretches RoPE",
         kOneOfThem),
    Rule({kPosition, "ROPE"}, kWithLatent, "its shared key is a rotated one", kOneOfThem),
    Rule({"model.attention.qk_norm", "NO_QK_NORM"}, kWithLatent, "it norms its latents instead",
         kOneOfThem),
    Rule({"model.attention.qkv_bias", "false"}, kWithLatent, "it has no joint projection",
         kOneOfThem),
    Rule({"model.attention.qkv_clip", "0"}, kWithLatent, "it has no joint projection", kOneOfThem),
    Rule({"model.attention.logit_cap", "0"}, kWithLatent, "no family caps its scores", kOneOfThem),
    Rule({kSwitchProjections, "false"}, kDense, "it takes the experts and the router of model.moe"),
    Rule({kSwitchProjections, "false"}, kWithLatent, "it has no plain projections"),
};

constexpr Rule kEncoderDecoders[] = {
    Rule({kPosition, "RELATIVE_BIAS"}, kT5, "so are T5's positions"),
    Rule({"model.attention.relative_bias.shared", "true"}, kT5,
         "the layers of a stack share one table"),
    Rule({"model.attention.relative_bias.num_buckets", "at least 4"}, kT5,
         "its encoder has half of them for each direction", "raise it"),
    Rule({kLatent, "unset"}, kT5, kOfT5),
    Rule({"model.attention.qk_norm", "NO_QK_NORM"}, kT5, kOfT5),
    Rule({"model.attention.qkv_bias", "false"}, kT5, kOfT5),
    Rule({"model.attention.qkv_clip", "0"}, kT5, kOfT5),
    Rule({"model.attention.sliding_window", "0"}, kT5, kOfT5),
    Rule({"model.sandwich_norm", "false"}, kT5, "it norms the inputs of its sub-layers alone"),
    Rule({"model.embedding_scale", "1"}, kT5, "it takes embeddings as they are"),
    Rule({"model.output_scale", "1"}, kT5,
         "its logits are scaled as tie_embeddings and initializer ask for"),
};

constexpr Rule kEarlyModels[] = {
    Rule({"model.attention", "unset"}, kEarly, "it has none"),
    Rule({"model.norm", "unset"}, kEarly, kNoNorms),
    Rule({"model.norm_cast", "unset"}, kEarly, kNoNorms),
    Rule({"model.norm_eps", "unset"}, kEarly, kNoNorms),
    Rule({"model.sandwich_norm", "unset"}, kEarly, kNoNorms),
    Rule({"model.embedding_scale", "unset"}, kEarly, "it takes its inputs as they are"),
    Rule({"model.output_scale", "unset"}, kEarly, "it takes its outputs as they are"),
    Rule({"model.d_ff", "0"}, kEarly, "it has no dense FFN"),
    Rule({"model.ffn", "unset"}, {kEarly, kDense}, "it has no FFN but experts"),
    Rule({"model.ffn_bias", "unset"}, {kEarly, kDense}, "it has no FFN but experts"),
    Rule({"model.moe.stacking", "NO_STACKING"}, {{kArchitecture, "LSTM_LM"}},
         "it has no dense FFN to put beside its experts"),
    Rule({kOutputZLoss, "0"}, {{kSampledSoftmax, "above 0"}},
         "that computes the logits of a few words only", kOneOfThem),
    Rule({kOutputZLoss, "0"}, kLocalExperts, "it has no vocabulary"),
    Rule({kMoe, "unset"}, kLocalExperts, "it has its experts in model.local_experts"),
    Rule({"model.num_layers", "1"}, kLocalExperts,
         "its experts are one layer, with one hidden layer if hidden_units says so"),
    Rule({"model.tie_embeddings", "true"}, kLocalExperts, "it has no embeddings"),
    Rule({"train.recompute", "RECOMPUTE_NONE"}, kLocalExperts, "it has no layers to compute again"),
    Rule({"runtime.compute", "FP32 or FP64"}, kLocalExperts,
         "its few numbers gain nothing from BF16", "change it"),
    Rule({kTable, "set"}, kLocalExperts, "it learns from a table",
         "name one as configs/vowels.textproto does"),
};

constexpr Rule kTexts[] = {
    Rule({"data.spans", "unset"}, {{kObjective, "not SPAN_CORRUPTION"}}, "it hides no spans"),
    Rule({"data.sequence_length", "at least 4"}, {{kObjective, "SPAN_CORRUPTION"}},
         "the shortest input is a token, a sentinel, a token and the end", "raise it"),
    Rule({"data.target_length", "unset"}, {{kObjective, "not TRANSLATION"}},
         "other objectives have no second text"),
    Rule({kSynthetic, "unset"}, {{kObjective, "TRANSLATION"}}, "it needs pairs of texts",
         "name them in data.train"),
    Rule({kSynthetic, "unset"}, {{kTable, "set"}}, nullptr, kOneOfThem),
    Rule({"data.sequence_length", "1"}, {{kTable, "set"}}, "a case is a row"),
    Rule({"data.tokenizer", "not \"none\""}, {{kObjective, "not NEXT_TOKEN"}},
         "it needs the token that ends a document", "name the tokenizer"),
    Rule({"data.synthetic.kind", "not DOMAIN_BIGRAMS"}, {{kObjective, "not NEXT_TOKEN"}}),
    Rule({"data.synthetic.num_domains", "unset"}, {{"data.synthetic.kind", "NOISY_BIGRAMS"}},
         "it has no domains", "leave it out, or set kind: DOMAIN_BIGRAMS"),
};

constexpr Rule kOptimizers[] = {
    Rule({"optimizer.hold_steps", "unset"}, {{kSchedule, "not INVERSE_SQRT"}},
         "other schedules do not hold the peak", "leave it out, or use INVERSE_SQRT"),
    Rule({"optimizer.decay_fraction", "unset"},
         {{kSchedule, "not CONSTANT_THEN_DECAY or INVERSE_SQRT"}},
         "other schedules have no final decay",
         "leave it out, or use CONSTANT_THEN_DECAY or INVERSE_SQRT"),
    Rule({"optimizer.decay_fraction", "above 0"}, {{kSchedule, "CONSTANT_THEN_DECAY"}},
         "else nothing decays", "raise it, or use CONSTANT"),
    Rule({"optimizer.beta1", "unset"}, {{kKind, "not ADAMW or ADAM_FACTORED_EXPERTS"}}),
    Rule({"optimizer.beta2", "unset"}, {{kKind, "not ADAMW or ADAM_FACTORED_EXPERTS"}}),
    Rule({"optimizer.eps", "unset"}, {{kKind, "not ADAMW or ADAM_FACTORED_EXPERTS"}}),
    Rule({"optimizer.momentum", "unset"}, {{kKind, "not SGD"}}),
    Rule({"optimizer.adafactor", "unset"}, {{kKind, "not ADAFACTOR"}}),
    Rule({kKind, "not ADAM_FACTORED_EXPERTS"}, kDense, "it is for models with experts",
         "use ADAMW"),
    Rule({"model.init_scale", "unset"}, {{kInitializer, "not TRUNCATED_NORMAL"}}),
    Rule({"model.init_restore_variance", "unset"}, {{kInitializer, "not TRUNCATED_NORMAL"}}),
    Rule({"model.init_range", "unset"}, {{kInitializer, "not UNIFORM"}}),
    Rule({"model.init_cut", "unset"}, {{kInitializer, "not NORMAL"}}),
    Rule({"model.scale_init_by_depth", "false"}, {{kInitializer, "not NORMAL"}},
         "only a standard deviation is divided", kOneOfThem),
};

constexpr Topic kTopics[] = {
    {"What belongs to an architecture", kOwned},
    {"Attention", kAttentions},
    {"Encoder-decoders", kEncoderDecoders},
    {"Models before the transformer", kEarlyModels},
    {"Texts and tables", kTexts},
    {"Optimizers, schedules and initialisation", kOptimizers},
};

}  // namespace

std::span<const Topic> model_compatibility() { return kTopics; }

}  // namespace switchyard::config
