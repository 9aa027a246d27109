#include "trainer/selfcheck/shrink.h"

#include <algorithm>
#include <numeric>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/base/errors.h"
#include "core/config/fields.h"
#include "core/config/overrides.h"
#include "core/config/validate.h"
#include "models/inspect/census.h"

namespace switchyard::trainer {
namespace {

// Sizes that nothing else depends on: at most so much.
struct Size {
  const char* path;
  int64_t most;
};
constexpr Size kSizes[] = {
    {"model.d_model", 32},
    {"model.d_ff", 48},
    {"model.attention.sliding_window", 8},
    {"model.attention.max_positions", 64},
    {"model.attention.relative_bias.num_buckets", 8},
    {"model.attention.relative_bias.max_distance", 16},
    {"model.attention.latent.kv_rank", 16},
    {"model.attention.latent.q_rank", 16},
    {"model.attention.latent.rope_dim", 4},
    {"model.attention.latent.nope_dim", 8},
    {"model.attention.latent.value_dim", 8},
    {"model.moe.d_ff", 24},
    {"model.moe.hidden_layers", 3},
    {"model.moe.shared_expert.count", 2},
    {"model.moe.shared_expert.d_ff", 16},
    {"model.moe.capacity.minimum", 1},  // so that the capacity still binds
    {"model.moe.capacity.fixed_slots", 4},
    {"model.moe.capacity.group_sequences", 2},
    {"model.lstm.hidden", 48},
    {"model.lstm.sampled_softmax", 16},
    {"optimizer.adafactor.least_factored_dim", 16},  // so that some matrices are still factored
    {"train.accumulation", 2},
};
constexpr Size kTextSizes[] = {
    {"model.vocab_size", 96},
    {"data.sequence_length", 24},
    {"data.synthetic.num_domains", 4},
    {"data.synthetic.num_tokens", 100'000},
};

template <size_t kCount>
void lower(const Size (&sizes)[kCount], config::RunConfig& config) {
  for (const auto& [path, most] : sizes) {
    const auto value = config::number_at(config, path);
    if (value && *value > most) config::apply_override(config, fmt::format("{}={}", path, most));
  }
}

void shrink_attention(config::Attention& attention) {
  const int kv_heads = attention.num_kv_heads(), share = attention.num_heads() / kv_heads;
  const int fewer = std::min(kv_heads, 4);
  attention.set_num_kv_heads(fewer);
  attention.set_num_heads(fewer * std::min(share, 2));
  const config::Latent& latent = attention.latent();
  attention.set_head_dim(attention.has_latent() ? latent.nope_dim() + latent.rope_dim()
                                                : std::min(attention.head_dim(), 8));
}

// Layers of both kinds, where the model has both, and of MoE layers two, where it has them. A
// decoder keeps as many as may lie on stages of their own.
void shrink_layers(config::Model& model, int ranks) {
  int layers = 2;
  if (model.has_moe()) {
    config::Moe& moe = *model.mutable_moe();
    moe.set_first_layer(std::min(moe.first_layer(), 1));
    moe.set_every_n_layers(std::min(moe.every_n_layers(), 2));
    layers = moe.first_layer() + moe.every_n_layers() + 1;
  }
  if (model.architecture() == config::DECODER) layers = std::max(layers, ranks);
  model.set_num_layers(std::min(model.num_layers(), layers));
}

// Groups of experts keep their number up to 8 and are of at most 4 experts.
void shrink_experts(config::Moe& moe) {
  config::Router& router = *moe.mutable_router();
  const int groups = std::max(1, router.num_groups());
  const int fewer_groups = std::min(groups, 8);
  const int most = groups > 1 ? 4 : moe.top_k() > 4 ? 16 : 8;
  const int experts = fewer_groups * std::min(moe.num_experts() / groups, most);
  if (groups > 1) router.set_num_groups(fewer_groups);
  if (moe.has_num_devices()) moe.set_num_devices(std::gcd(moe.num_devices(), experts));
  moe.set_num_experts(experts);
}

void take_generated_text(config::RunConfig& config) {
  config::Data& data = *config.mutable_data();
  data.clear_train();
  data.clear_validation();
  data.clear_tokenizer();
  if (data.has_synthetic()) return;
  data.mutable_synthetic()->set_num_tokens(100'000);
  data.mutable_synthetic()->set_kind(config::NOISY_BIGRAMS);
  data.mutable_synthetic()->set_seed(config.seed());
}

// The batch by itself: schedules of it are of other sizes.
void shrink_batch(config::RunConfig& config, int ranks) {
  config::Train& train = *config.mutable_train();
  const int group =
      config.model().has_moe() ? std::max(1, config.model().moe().capacity().group_sequences()) : 1;
  train.set_accumulation(std::max(1, train.accumulation()));
  train.set_global_batch(2 * ranks * group * train.accumulation());
  auto& schedules = *config.mutable_schedule();
  schedules.erase(std::remove_if(schedules.begin(), schedules.end(),
                                 [](const auto& s) { return s.field() == "train.global_batch"; }),
                  schedules.end());
}

}  // namespace

config::RunConfig shrunk(config::RunConfig config, int ranks) {
  config.clear_init_from();
  config::Model& model = *config.mutable_model();
  const bool is_text =
      !config.data().has_table() && config.data().objective() != config::TRANSLATION;
  if (is_text) take_generated_text(config);
  if (model.architecture() != config::LOCAL_EXPERTS) lower(kSizes, config);
  if (is_text) lower(kTextSizes, config);
  shrink_layers(model, ranks);
  if (model.attention().num_kv_heads() > 0) shrink_attention(*model.mutable_attention());
  if (model.has_moe()) shrink_experts(*model.mutable_moe());
  shrink_batch(config, ranks);
  const std::vector<std::string> problems = config::problems(config, ranks);
  if (!problems.empty())
    throw ConfigError(fmt::format("--shrink: the small sizes break rules of this config:\n{}",
                                  fmt::join(problems, "\n")));
  return config;
}

std::string describe_sizes(const config::RunConfig& config) {
  const config::Model& model = config.model();
  std::string text = fmt::format("{} layer(s), d_model {}", model.num_layers(), model.d_model());
  if (model.attention().num_heads() > 0)
    text += fmt::format(", {} heads of {} over {}", model.attention().num_heads(),
                        model.attention().head_dim(), model.attention().num_kv_heads());
  if (model.has_moe())
    text += fmt::format(", {} experts of d_ff {}, top {}", model.moe().num_experts(),
                        model.moe().d_ff(), model.moe().top_k());
  return text + fmt::format(", vocabulary {}, {} sequences of {}; {} parameters",
                            model.vocab_size(), config.train().global_batch(),
                            config.data().sequence_length(), models::census(model).total);
}

}  // namespace switchyard::trainer
