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

constexpr const char* kBeforeTransformers = "LSTM_LM or LOCAL_EXPERTS";
constexpr const char* kNoNorms = "it has no norms";
constexpr const char* kOfT5 = "its attention is T5's, which has none";
constexpr const char* kOneOfThem = "leave one of them out";

constexpr Incompatibility kOwned[] = {
    {{"model.lstm", "unset"}, {{kArchitecture, "not LSTM_LM"}}},
    {{"model.mtp", "unset"}, {{kArchitecture, "not DECODER"}}},
    {{"model.local_experts", "unset"}, {{kArchitecture, "not LOCAL_EXPERTS"}}},
    {{kTable, "unset"}, {{kArchitecture, "not LOCAL_EXPERTS"}}},
    {{"train.stop_below_error", "0"}, {{kArchitecture, "not LOCAL_EXPERTS"}}},
    {{"model.dropout", "0"}, {{kArchitecture, "DECODER or LOCAL_EXPERTS"}}},
    {{kObjective, "NEXT_TOKEN"}, {{kArchitecture, "DECODER or LSTM_LM"}}},
    {{kObjective, "SPAN_CORRUPTION or TRANSLATION"}, {{kArchitecture, "ENCODER_DECODER"}}},
    {{kObjective, "CLASSIFICATION"}, {{kArchitecture, "LOCAL_EXPERTS"}}},
};

constexpr Incompatibility kAttentions[] = {
    {{"model.attention.relative_bias", "unset"}, {{kPosition, "not RELATIVE_BIAS"}}},
    {{"model.attention.yarn", "unset"}, {{kPosition, "not ROPE"}}, "it stretches RoPE", kOneOfThem},
    {{kPosition, "ROPE"}, {{kLatent, "set"}}, "its shared key is a rotated one", kOneOfThem},
    {{"model.attention.qk_norm", "NO_QK_NORM"},
     {{kLatent, "set"}},
     "it norms its latents instead",
     kOneOfThem},
    {{"model.attention.qkv_bias", "false"},
     {{kLatent, "set"}},
     "it has no joint projection",
     kOneOfThem},
    {{"model.attention.qkv_clip", "0"},
     {{kLatent, "set"}},
     "it has no joint projection",
     kOneOfThem},
    {{"model.attention.logit_cap", "0"},
     {{kLatent, "set"}},
     "no family caps its scores",
     kOneOfThem},
    {{kSwitchProjections, "false"},
     {{kMoe, "unset"}},
     "it takes the experts and the router of model.moe"},
    {{kSwitchProjections, "false"}, {{kLatent, "set"}}, "it has no plain projections"},
};

constexpr Incompatibility kEncoderDecoders[] = {
    {{kPosition, "RELATIVE_BIAS"}, {{kArchitecture, "ENCODER_DECODER"}}, "so are T5's positions"},
    {{"model.attention.relative_bias.shared", "true"},
     {{kArchitecture, "ENCODER_DECODER"}},
     "the layers of a stack share one table"},
    {{"model.attention.relative_bias.num_buckets", "at least 4"},
     {{kArchitecture, "ENCODER_DECODER"}},
     "its encoder has half of them for each direction",
     "raise it"},
    {{kLatent, "unset"}, {{kArchitecture, "ENCODER_DECODER"}}, kOfT5},
    {{"model.attention.qk_norm", "NO_QK_NORM"}, {{kArchitecture, "ENCODER_DECODER"}}, kOfT5},
    {{"model.attention.qkv_bias", "false"}, {{kArchitecture, "ENCODER_DECODER"}}, kOfT5},
    {{"model.attention.qkv_clip", "0"}, {{kArchitecture, "ENCODER_DECODER"}}, kOfT5},
    {{"model.attention.sliding_window", "0"}, {{kArchitecture, "ENCODER_DECODER"}}, kOfT5},
    {{"model.sandwich_norm", "false"},
     {{kArchitecture, "ENCODER_DECODER"}},
     "it norms the inputs of its sub-layers alone"},
    {{"model.embedding_scale", "1"},
     {{kArchitecture, "ENCODER_DECODER"}},
     "it takes embeddings as they are"},
    {{"model.output_scale", "1"},
     {{kArchitecture, "ENCODER_DECODER"}},
     "its logits are scaled as tie_embeddings and initializer ask for"},
};

constexpr Incompatibility kEarlyModels[] = {
    {{"model.attention", "unset"}, {{kArchitecture, kBeforeTransformers}}, "it has none"},
    {{"model.norm", "unset"}, {{kArchitecture, kBeforeTransformers}}, kNoNorms},
    {{"model.norm_cast", "unset"}, {{kArchitecture, kBeforeTransformers}}, kNoNorms},
    {{"model.norm_eps", "unset"}, {{kArchitecture, kBeforeTransformers}}, kNoNorms},
    {{"model.sandwich_norm", "unset"}, {{kArchitecture, kBeforeTransformers}}, kNoNorms},
    {{"model.embedding_scale", "unset"},
     {{kArchitecture, kBeforeTransformers}},
     "it takes its inputs as they are"},
    {{"model.output_scale", "unset"},
     {{kArchitecture, kBeforeTransformers}},
     "it takes its outputs as they are"},
    {{"model.d_ff", "0"}, {{kArchitecture, kBeforeTransformers}}, "it has no dense FFN"},
    {{"model.ffn", "unset"},
     {{kArchitecture, kBeforeTransformers}, {kMoe, "unset"}},
     "it has no FFN but experts"},
    {{"model.ffn_bias", "unset"},
     {{kArchitecture, kBeforeTransformers}, {kMoe, "unset"}},
     "it has no FFN but experts"},
    {{"model.moe.stacking", "NO_STACKING"},
     {{kArchitecture, "LSTM_LM"}},
     "it has no dense FFN to put beside its experts"},
    {{kOutputZLoss, "0"},
     {{kSampledSoftmax, "above 0"}},
     "that computes the logits of a few words only",
     kOneOfThem},
    {{kOutputZLoss, "0"}, {{kArchitecture, "LOCAL_EXPERTS"}}, "it has no vocabulary"},
    {{kMoe, "unset"},
     {{kArchitecture, "LOCAL_EXPERTS"}},
     "it has its experts in model.local_experts"},
    {{"model.num_layers", "1"},
     {{kArchitecture, "LOCAL_EXPERTS"}},
     "its experts are one layer, with one hidden layer if hidden_units says so"},
    {{"model.tie_embeddings", "true"}, {{kArchitecture, "LOCAL_EXPERTS"}}, "it has no embeddings"},
    {{"train.recompute", "RECOMPUTE_NONE"},
     {{kArchitecture, "LOCAL_EXPERTS"}},
     "it has no layers to compute again"},
    {{"runtime.compute", "FP32 or FP64"},
     {{kArchitecture, "LOCAL_EXPERTS"}},
     "its few numbers gain nothing from BF16",
     "change it"},
    {{kTable, "set"},
     {{kArchitecture, "LOCAL_EXPERTS"}},
     "it learns from a table",
     "name one as configs/vowels.textproto does"},
};

constexpr Incompatibility kTexts[] = {
    {{"data.spans", "unset"}, {{kObjective, "not SPAN_CORRUPTION"}}, "it hides no spans"},
    {{"data.sequence_length", "at least 4"},
     {{kObjective, "SPAN_CORRUPTION"}},
     "the shortest input is a token, a sentinel, a token and the end",
     "raise it"},
    {{"data.target_length", "unset"},
     {{kObjective, "not TRANSLATION"}},
     "other objectives have no second text"},
    {{kSynthetic, "unset"},
     {{kObjective, "TRANSLATION"}},
     "it needs pairs of texts",
     "name them in data.train"},
    {{kSynthetic, "unset"}, {{kTable, "set"}}, nullptr, kOneOfThem},
    {{"data.sequence_length", "1"}, {{kTable, "set"}}, "a case is a row"},
    {{"data.tokenizer", "not \"none\""},
     {{kObjective, "not NEXT_TOKEN"}},
     "it needs the token that ends a document",
     "name the tokenizer"},
    {{"data.synthetic.kind", "not DOMAIN_BIGRAMS"}, {{kObjective, "not NEXT_TOKEN"}}},
    {{"data.synthetic.num_domains", "unset"},
     {{"data.synthetic.kind", "NOISY_BIGRAMS"}},
     "it has no domains",
     "leave it out, or set kind: DOMAIN_BIGRAMS"},
};

constexpr Incompatibility kOptimizers[] = {
    {{"optimizer.hold_steps", "unset"},
     {{kSchedule, "not INVERSE_SQRT"}},
     "other schedules do not hold the peak",
     "leave it out, or use INVERSE_SQRT"},
    {{"optimizer.decay_fraction", "unset"},
     {{kSchedule, "not CONSTANT_THEN_DECAY or INVERSE_SQRT"}},
     "other schedules have no final decay",
     "leave it out, or use CONSTANT_THEN_DECAY or INVERSE_SQRT"},
    {{"optimizer.decay_fraction", "above 0"},
     {{kSchedule, "CONSTANT_THEN_DECAY"}},
     "else nothing decays",
     "raise it, or use CONSTANT"},
    {{"optimizer.beta1", "unset"}, {{kKind, "not ADAMW or ADAM_FACTORED_EXPERTS"}}},
    {{"optimizer.beta2", "unset"}, {{kKind, "not ADAMW or ADAM_FACTORED_EXPERTS"}}},
    {{"optimizer.eps", "unset"}, {{kKind, "not ADAMW or ADAM_FACTORED_EXPERTS"}}},
    {{"optimizer.momentum", "unset"}, {{kKind, "not SGD"}}},
    {{"optimizer.adafactor", "unset"}, {{kKind, "not ADAFACTOR"}}},
    {{kKind, "not ADAM_FACTORED_EXPERTS"},
     {{kMoe, "unset"}},
     "it is for models with experts",
     "use ADAMW"},
    {{"model.init_scale", "unset"}, {{kInitializer, "not TRUNCATED_NORMAL"}}},
    {{"model.init_restore_variance", "unset"}, {{kInitializer, "not TRUNCATED_NORMAL"}}},
    {{"model.init_range", "unset"}, {{kInitializer, "not UNIFORM"}}},
    {{"model.init_cut", "unset"}, {{kInitializer, "not NORMAL"}}},
    {{"model.scale_init_by_depth", "false"},
     {{kInitializer, "not NORMAL"}},
     "only a standard deviation is divided",
     kOneOfThem},
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
