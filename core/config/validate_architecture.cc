// What each architecture needs and what it has no use for.

#include <string>
#include <string_view>

#include "core/config/layers.h"
#include "core/config/validate_rules.h"

namespace switchyard::config {

namespace {

// A group that only one architecture reads.
void check_owner(const RunConfig& config, bool is_set, std::string_view path, Architecture owner,
                 Findings& findings) {
  const Architecture architecture = config.model().architecture();
  if (is_set && architecture != owner)
    findings.add("{} is set, but model.architecture {} does not use it; leave it out or set {}",
                 path, Architecture_Name(architecture), Architecture_Name(owner));
}

bool suits(Objective objective, Architecture architecture) {
  switch (architecture) {
    case ENCODER_DECODER:
      return objective == SPAN_CORRUPTION || objective == TRANSLATION;
    case LOCAL_EXPERTS:
      return objective == CLASSIFICATION;
    default:
      return objective == NEXT_TOKEN;
  }
}

void check_objective(const RunConfig& config, Findings& findings) {
  const Data& data = config.data();
  const Architecture architecture = config.model().architecture();
  if (data.has_objective() && !suits(data.objective(), architecture))
    findings.add("data.objective ({}) does not suit model.architecture {}; leave it out",
                 Objective_Name(data.objective()), Architecture_Name(architecture));
  if (data.has_spans() && data.objective() != SPAN_CORRUPTION)
    findings.add("data.spans is set, but objective {} hides none; leave it out",
                 Objective_Name(data.objective()));
  if (data.has_target_length() && data.objective() != TRANSLATION)
    findings.add("data.target_length ({}) is set, but objective {} does not use it; leave it out",
                 data.target_length(), Objective_Name(data.objective()));
  constexpr int kShortest = 4;  // a token, a sentinel, a token, the end
  if (data.objective() == SPAN_CORRUPTION && data.sequence_length() < kShortest)
    findings.add(
        "data.sequence_length ({}) must be at least {} with objective SPAN_CORRUPTION; "
        "raise it",
        data.sequence_length(), kShortest);
  if (data.objective() == TRANSLATION && data.has_synthetic())
    findings.add(
        "data.synthetic is set, but objective TRANSLATION needs pairs of texts; name them "
        "in data.train");
}

// Refuses fields of the model that its architecture does not read, each with the reason.
class Unused {
 public:
  Unused(const Model& model, Findings& findings)
      : architecture_(Architecture_Name(model.architecture())), findings_(findings) {}

  void operator()(bool is_set, const char* field, const char* reason) const {
    if (is_set)
      findings_.add("model.{} must not be used with architecture {}: {}; leave it out", field,
                    architecture_, reason);
  }

 private:
  std::string architecture_;
  Findings& findings_;
};

// Its layers are T5's.
void check_encoder_decoder(const Model& model, Findings& findings) {
  const Attention& attention = model.attention();
  const Unused unused(model, findings);
  const char* other = "its attention is T5's, which has none";
  unused(attention.position() == ROPE, "attention.position (ROPE)",
         "its positions are a relative bias");
  unused(attention.position() == LEARNED_POSITIONS, "attention.position (LEARNED_POSITIONS)",
         "its positions are a relative bias");
  unused(attention.has_relative_bias() && !attention.relative_bias().shared(),
         "attention.relative_bias.shared (false)", "the layers of a stack share one table");
  const int buckets = attention.relative_bias().num_buckets();
  if (buckets > 1 && buckets < 4)
    findings.add(
        "model.attention.relative_bias.num_buckets ({}) must be at least 4 with architecture "
        "ENCODER_DECODER, whose encoder has half of them for each direction; raise it",
        buckets);
  unused(attention.has_latent(), "attention.latent", other);
  unused(attention.qk_norm() > NO_QK_NORM, "attention.qk_norm", other);
  unused(attention.qkv_bias(), "attention.qkv_bias", other);
  unused(attention.qkv_clip() > 0, "attention.qkv_clip", other);
  unused(attention.sliding_window() > 0, "attention.sliding_window", other);
  unused(model.sandwich_norm(), "sandwich_norm", "it norms the inputs of its sub-layers alone");
  unused(model.embedding_scale() != 1, "embedding_scale", "it takes embeddings as they are");
  unused(model.output_scale() != 1, "output_scale",
         "its logits are scaled as tie_embeddings and initializer ask for");
}

// The loss that needs the logits of the whole vocabulary.
void check_output_z_loss(const Model& model, Findings& findings) {
  if (model.output_z_loss_coefficient() == 0) return;
  if (model.architecture() == LOCAL_EXPERTS)
    findings.add(
        "model.output_z_loss_coefficient ({}) must be 0 or unset with model.architecture "
        "LOCAL_EXPERTS, which has no vocabulary; leave it out",
        model.output_z_loss_coefficient());
  if (model.lstm().sampled_softmax() > 0)
    findings.add(
        "model.output_z_loss_coefficient ({}) must be 0 or unset with model.lstm.sampled_softmax "
        "({}), which computes the logits of a few words only; leave one of them out",
        model.output_z_loss_coefficient(), model.lstm().sampled_softmax());
}

// What the architectures before the transformer lack. Defaults set these for transformers alone.
void check_no_transformer(const Model& model, Findings& findings) {
  const Unused unused(model, findings);
  const char* no_norms = "it has no norms";
  unused(model.has_attention(), "attention", "it has none");
  unused(model.has_norm(), "norm", no_norms);
  unused(model.has_norm_cast(), "norm_cast", no_norms);
  unused(model.has_norm_eps(), "norm_eps", no_norms);
  unused(model.has_sandwich_norm(), "sandwich_norm", no_norms);
  unused(model.has_embedding_scale(), "embedding_scale", "it takes its inputs as they are");
  unused(model.has_output_scale(), "output_scale", "it takes its outputs as they are");
  unused(model.d_ff() > 0, "d_ff", "it has no dense FFN");
  if (model.has_moe()) return;
  unused(model.has_ffn(), "ffn", "without model.moe it has no FFN");
  unused(model.has_ffn_bias(), "ffn_bias", "without model.moe it has no FFN");
}

void check_lstm_lm(const Model& model, Findings& findings) {
  const Unused unused(model, findings);
  unused(model.moe().stacking() > NO_STACKING, "moe.stacking",
         "it has no dense FFN to put beside its experts");
  if (model.lstm().sampled_softmax() >= model.vocab_size() && model.vocab_size() > 0)
    findings.add(
        "model.lstm.sampled_softmax ({}) must be below model.vocab_size ({}), else the whole "
        "vocabulary is cheaper; lower it or set 0",
        model.lstm().sampled_softmax(), model.vocab_size());
}

void check_table(const RunConfig& config, Findings& findings) {
  const Table& table = config.data().table();
  const Data& data = config.data();
  if (data.has_synthetic() || data.train_size() > 0 || data.validation_size() > 0)
    findings.add(
        "data.table must not be set together with data.train, data.validation or data.synthetic; "
        "leave one of them out");
  if (config.data().sequence_length() != 1)
    findings.add("data.sequence_length ({}) must be 1 or unset with data.table: a case is a row",
                 config.data().sequence_length());
  if (config.model().d_model() != table.features_size())
    findings.add("model.d_model ({}) must be the number of data.table.features ({}) or unset",
                 config.model().d_model(), table.features_size());
  if (config.model().vocab_size() != table.classes_size())
    findings.add("model.vocab_size ({}) must be the number of data.table.classes ({}) or unset",
                 config.model().vocab_size(), table.classes_size());
}

void check_local_experts(const RunConfig& config, Findings& findings) {
  const Unused unused(config.model(), findings);
  unused(config.model().num_layers() > 1, "num_layers (above 1)",
         "its experts are one layer, with one hidden layer if hidden_units says so");
  unused(!config.model().tie_embeddings(), "tie_embeddings (false)", "it has no embeddings");
  if (config.train().recompute() > RECOMPUTE_NONE)
    findings.add(
        "train.recompute ({}) must be RECOMPUTE_NONE with model.architecture LOCAL_EXPERTS, which "
        "has no layers to compute again; leave it out",
        Recompute_Name(config.train().recompute()));
  if (config.model().has_moe())
    findings.add(
        "model.moe is set, but model.architecture LOCAL_EXPERTS has its experts in "
        "model.local_experts; leave model.moe out");
  if (config.runtime().compute() == BF16)
    findings.add(
        "runtime.compute (BF16) must be FP32 or FP64 for model.architecture LOCAL_EXPERTS, whose "
        "few numbers gain nothing from it; change it");
  if (!config.data().has_table())
    findings.add(
        "data.table is not set, and model.architecture LOCAL_EXPERTS learns from a table; name one "
        "as configs/vowels.textproto does");
  else
    check_table(config, findings);
}

}  // namespace

void check_architecture(const RunConfig& config, Findings& findings) {
  const Model& model = config.model();
  check_owner(config, model.has_lstm(), "model.lstm", LSTM_LM, findings);
  check_owner(config, model.has_mtp(), "model.mtp", DECODER, findings);
  check_output_z_loss(model, findings);
  check_owner(config, model.has_local_experts(), "model.local_experts", LOCAL_EXPERTS, findings);
  check_owner(config, config.data().has_table(), "data.table", LOCAL_EXPERTS, findings);
  check_owner(config, config.train().stop_below_error() > 0, "train.stop_below_error",
              LOCAL_EXPERTS, findings);
  const bool has_dropout =
      model.architecture() == LSTM_LM || model.architecture() == ENCODER_DECODER;
  if (model.dropout() > 0 && !has_dropout)
    findings.add("model.dropout ({}) is set, but model.architecture {} has none; leave it out",
                 model.dropout(), Architecture_Name(model.architecture()));
  check_objective(config, findings);
  if (model.architecture() == ENCODER_DECODER) check_encoder_decoder(model, findings);
  if (!has_attention(model)) check_no_transformer(model, findings);
  if (model.architecture() == LSTM_LM) check_lstm_lm(model, findings);
  if (model.architecture() == LOCAL_EXPERTS) check_local_experts(config, findings);
}

}  // namespace switchyard::config
