// The range of every number in the schema, as tables.

#include <cmath>
#include <limits>

#include "core/config/fields.h"
#include "core/config/validate_rules.h"

namespace switchyard::config {

namespace {

constexpr double kLargestFloat = std::numeric_limits<float>::max();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

struct IntegerRange {
  const char* path;
  int64_t least;
  int64_t most = std::numeric_limits<int64_t>::max();
};

constexpr int64_t kManyTokens = int64_t{1} << 60;  // positions in a stream stay below 2^63
constexpr int64_t kManyThreads = 4096;
// Far above any model. A matrix of the widest has 2^48 numbers, which can still be counted.
constexpr int64_t kWidest = 1 << 24, kMostLayers = 4096;

constexpr IntegerRange kIntegers[] = {
    {"model.num_layers", 1, kMostLayers},
    {"model.d_model", 1, kWidest},
    {"model.d_ff", 0, kWidest},  // 0 where no layer is dense
    {"model.vocab_size", 1, kWidest},
    {"model.attention.num_heads", 1, kWidest},
    {"model.attention.num_kv_heads", 1, kWidest},
    {"model.attention.head_dim", 2, kWidest},
    {"model.attention.sliding_window", 0},
    {"model.attention.max_positions", 1, kWidest},
    {"model.attention.relative_bias.num_buckets", 2, kWidest},
    {"model.attention.relative_bias.max_distance", 2},
    {"model.attention.latent.kv_rank", 1, kWidest},
    {"model.attention.latent.q_rank", 0, kWidest},
    {"model.attention.latent.rope_dim", 2, kWidest},
    {"model.attention.latent.nope_dim", 1, kWidest},
    {"model.attention.latent.value_dim", 1, kWidest},
    {"model.attention.yarn.original_length", 1},
    {"model.moe.num_experts", 1, kWidest},
    {"model.moe.top_k", 1},
    {"model.moe.d_ff", 1, kWidest},
    {"model.moe.hidden_layers", 1, kMostLayers},
    {"model.moe.first_layer", 0},
    {"model.moe.every_n_layers", 1},
    {"model.moe.router.num_groups", 1},
    {"model.moe.router.group_top_k", 1},
    {"model.moe.router.group_score_experts", 1},
    {"model.moe.num_devices", 1},
    {"model.moe.capacity.minimum", 0},
    {"model.moe.capacity.multiple_of", 1},
    {"model.moe.capacity.fixed_slots", 0},
    {"model.moe.capacity.rounds", 1},
    {"model.moe.capacity.group_sequences", 1},
    {"model.moe.capacity.max_group_tokens", 0},
    {"model.moe.shared_expert.count", 1, kWidest},
    {"model.moe.shared_expert.d_ff", 1, kWidest},
    {"model.lstm.hidden", 1, kWidest},
    {"model.lstm.sampled_softmax", 0},
    {"model.local_experts.num_experts", 1, kWidest},
    {"model.local_experts.hidden_units", 0, kWidest},
    {"data.sequence_length", 1, kWidest},
    {"data.target_length", 1, kWidest},
    {"data.table.train_groups", 1},
    {"data.table.test_groups", 0},
    {"data.synthetic.num_tokens", 1, kManyTokens},
    {"data.synthetic.num_domains", 1},
    {"train.steps", 0},
    {"train.global_batch", 1},
    {"train.accumulation", 1},
    {"train.stop_after_steps", 0},
    {"train.max_skipped_steps", 0},
    {"optimizer.warmup_steps", 0},
    {"optimizer.hold_steps", 0},
    {"optimizer.adafactor.least_factored_dim", 1},
    {"eval.every", 0},
    {"eval.sequences", 1},
    {"checkpoint.every", 0},
    {"checkpoint.keep", 2},  // the newest may still be in the process of being written
    {"log.every", 1},
    {"log.dead_after_steps", 1},
    {"log.load_every", 0},
    {"runtime.threads", 0, kManyThreads},
    {"runtime.timeout_seconds", 1},
};

enum class Bound { kOpen, kClosed };

struct RealRange {
  const char* path;
  double low;
  Bound low_bound;
  double high;
  Bound high_bound;
};

constexpr RealRange above_zero(const char* path) {
  return {path, 0, Bound::kOpen, kInfinity, Bound::kOpen};
}
constexpr RealRange not_negative(const char* path) {
  return {path, 0, Bound::kClosed, kInfinity, Bound::kOpen};
}
constexpr RealRange share_below_one(const char* path) {
  return {path, 0, Bound::kClosed, 1, Bound::kOpen};
}

constexpr RealRange kReals[] = {
    above_zero("model.norm_eps"),
    above_zero("model.embedding_scale"),
    above_zero("model.output_scale"),
    above_zero("model.init_std"),
    above_zero("model.init_scale"),
    share_below_one("model.dropout"),
    share_below_one("model.ffn_dropout"),
    not_negative("model.output_z_loss_coefficient"),
    above_zero("model.mtp.weight"),
    not_negative("model.init_cut"),
    // Nearer to 1, a row of the decoder has hundreds of times the tokens of the encoder's.
    {"data.spans.density", 0, Bound::kOpen, 0.99, Bound::kClosed},
    {"data.spans.mean_length", 1, Bound::kClosed, kInfinity, Bound::kOpen},
    not_negative("train.stop_below_error"),
    above_zero("model.init_range"),
    above_zero("model.attention.rope_theta"),
    above_zero("model.attention.scale"),
    not_negative("model.attention.logit_cap"),
    not_negative("model.attention.qkv_clip"),
    share_below_one("model.attention.dropout"),
    {"model.attention.yarn.factor", 1, Bound::kClosed, kInfinity, Bound::kOpen},
    above_zero("model.attention.yarn.beta_fast"),
    above_zero("model.attention.yarn.beta_slow"),
    not_negative("model.attention.yarn.mscale"),
    share_below_one("model.moe.router.input_jitter"),
    share_below_one("model.moe.router.input_dropout"),
    {"model.moe.router.noise_std", 0, Bound::kOpen, 1e6, Bound::kClosed},
    not_negative("model.moe.router.bias_update_rate"),
    not_negative("model.moe.router.init_std"),
    {"model.moe.router.weight_norm", 1, Bound::kClosed, kInfinity, Bound::kOpen},
    above_zero("model.moe.router.route_scale"),
    {"model.moe.router.second_choice_threshold", 0, Bound::kOpen, 1, Bound::kClosed},
    {"model.moe.router.later_choice_threshold", 0, Bound::kOpen, 1, Bound::kClosed},
    above_zero("model.moe.capacity.train_factor"),
    above_zero("model.moe.capacity.eval_factor"),
    above_zero("model.moe.capacity.second_level_factor"),
    {"model.moe.capacity.exempt_share", 0, Bound::kClosed, 1, Bound::kClosed},
    not_negative("model.moe.balance_loss.coefficient"),
    not_negative("model.moe.balance_loss.device_coefficient"),
    not_negative("model.moe.balance_loss.communication_coefficient"),
    not_negative("model.moe.z_loss_coefficient"),
    share_below_one("model.moe.expert_dropout"),
    not_negative("model.moe.dead_expert_noise"),
    not_negative("model.moe.importance_loss_coefficient"),
    not_negative("model.moe.load_loss_coefficient"),
    not_negative("checkpoint.every_minutes"),
    not_negative("log.spike_sigmas"),
    above_zero("optimizer.lr"),
    not_negative("optimizer.min_lr"),
    {"optimizer.decay_fraction", 0, Bound::kClosed, 1, Bound::kClosed},
    share_below_one("optimizer.beta1"),
    share_below_one("optimizer.beta2"),
    above_zero("optimizer.eps"),
    not_negative("optimizer.weight_decay"),
    not_negative("optimizer.clip_norm"),
    share_below_one("optimizer.momentum"),
    above_zero("optimizer.adafactor.decay_exponent"),
    above_zero("optimizer.adafactor.epsilon"),
    {"optimizer.adafactor.beta2", 0, Bound::kOpen, 1, Bound::kClosed},
    above_zero("optimizer.adafactor.update_clip"),
    above_zero("optimizer.adafactor.least_scale"),
};

bool holds(const RealRange& range, double value) {
  if (!std::isfinite(value)) return false;
  const bool low = range.low_bound == Bound::kOpen ? value > range.low : value >= range.low;
  const bool high = range.high_bound == Bound::kOpen ? value < range.high : value <= range.high;
  return low && high;
}

std::string words(const RealRange& range) {
  const std::string low =
      fmt::format("{} {}", range.low_bound == Bound::kOpen ? "above" : "at least", range.low);
  if (std::isinf(range.high)) return "finite and " + low;
  return fmt::format("{} and {} {}", low, range.high_bound == Bound::kOpen ? "below" : "at most",
                     range.high);
}

}  // namespace

void check_ranges(const RunConfig& config, Findings& findings) {
  for (const IntegerRange& rule : kIntegers) {
    const auto value = integer_at(config, rule.path);
    if (value && *value < rule.least)
      findings.add("{} ({}) must be at least {}; raise it", rule.path, *value, rule.least);
    if (value && *value > rule.most)
      findings.add("{} ({}) must be at most {}; lower it", rule.path, *value, rule.most);
  }
  for (const RealRange& rule : kReals) {
    const auto value = real_at(config, rule.path);
    if (value && std::isfinite(*value) && *value > kLargestFloat)
      findings.add("{} ({}) must be at most {}, the greatest float32; lower it", rule.path, *value,
                   kLargestFloat);
    else if (value && !holds(rule, *value))
      findings.add("{} ({}) must be {}; choose a value in that range", rule.path, *value,
                   words(rule));
  }
}

}  // namespace switchyard::config
