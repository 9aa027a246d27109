#include "core/config/unused_fields.h"

#include <algorithm>
#include <string_view>

#include <fmt/format.h>

#include "core/config/compatibility.h"
#include "core/config/fields.h"
#include "core/config/layers.h"

namespace switchyard::config {
namespace {

// A field, when something reads it, and who does.
struct Use {
  constexpr Use(const char* field, Terms needs, const char* who, const char* value = nullptr,
                bool (*condition)(const RunConfig&) = nullptr)
      : path(field), by(needs), reader(who), neutral(value), also(condition) {}

  const char* path;
  Terms by;            // all must hold; a field without words is only shown, as the others are
  const char* reader;  // "only policy NEXT_FREE tries further experts"
  // The value that is true where nothing reads the field: it may be set there, and the defaults do
  // so. Null: there the field is unset.
  const char* neutral;
  bool (*also)(const RunConfig&);  // must hold too; null: nothing else
};

const Moe& moe(const RunConfig& config) { return config.model().moe(); }
const Router& router(const RunConfig& config) { return moe(config).router(); }
const Capacity& capacity(const RunConfig& config) { return moe(config).capacity(); }

bool is_scheduled(const RunConfig& config, std::string_view field) {
  return std::ranges::any_of(config.schedule(), [&](const auto& s) { return s.field() == field; });
}

// Above zero, at the start or later.
bool is_on(const RunConfig& config, const char* coefficient) {
  return number_at(config, coefficient).value_or(0) > 0 || is_scheduled(config, coefficient);
}

// Whether every FFN is an expert. A step of 0 layers between them is reported by its range.
bool has_only_experts(const RunConfig& config) {
  return config.model().has_moe() && moe(config).every_n_layers() > 0 &&
         !has_dense_ffn(config.model());
}

bool has_device_groups(const RunConfig& config) {
  return capacity(config).policy() == DEVICE_BUDGET ||
         is_on(config, "model.moe.balance_loss.device_coefficient") ||
         is_on(config, "model.moe.balance_loss.communication_coefficient");
}

bool has_router_losses(const RunConfig& config) {
  return router(config).selection() == STRICTLY_BALANCED || has_device_groups(config) ||
         is_on(config, "model.moe.balance_loss.coefficient") ||
         is_on(config, "model.moe.z_loss_coefficient") ||
         is_on(config, "model.moe.importance_loss_coefficient") ||
         is_on(config, "model.moe.load_loss_coefficient");
}

// Whether some routers' tokens choose, by scores, so that balance is not given.
bool has_balance(const RunConfig& config) {
  const Selection selection = router(config).selection();
  return router(config).weighting() != EQUAL && selection != STRICTLY_BALANCED &&
         (selection != EXPERT_CHOICE || decoder_chooses_by_token(config.model()));
}

bool has_routing_groups(const RunConfig& config) {
  const Selection selection = router(config).selection();
  return capacity(config).policy() != NO_DROP || selection == SINKHORN ||
         selection == BALANCED_ASSIGNMENT ||
         (has_balance(config) && moe(config).balance_loss().statistics() == PER_GROUP);
}

bool evaluates(const RunConfig& config) { return has_validation(config.data()); }

// Other architectures refuse the fields of a transformer by rules of their own.
bool may_have_dense_ffn(const RunConfig& config) {
  return !has_attention(config.model()) || !has_only_experts(config);
}
bool may_have_rms_norm(const RunConfig& config) {
  const Attention& attention = config.model().attention();
  return !has_attention(config.model()) || config.model().norm() == RMS_NORM ||
         attention.qk_norm() > NO_QK_NORM || attention.has_latent();
}

bool reads_dense_kind(const RunConfig& config) {
  return !has_only_experts(config) || moe(config).ffn() == config.model().ffn();
}
bool has_residual(const RunConfig& config) {
  return has_attention(config.model()) || config.model().has_moe();
}
bool has_documents(const RunConfig& config) {
  return config.data().synthetic().kind() != DOMAIN_BIGRAMS;
}
bool decays_norms(const RunConfig& config) {
  return has_attention(config.model()) && is_on(config, "optimizer.weight_decay");
}
bool decays_embeddings(const RunConfig& config) {
  return has_embedding(config.model()) && is_on(config, "optimizer.weight_decay");
}

bool starts_at_zeros(const RunConfig& config) {
  return router(config).has_init_std() && router(config).init_std() == 0;
}

// The router's matrices as the model has all, or as its own rule says.
bool reads_router_deviation(const RunConfig& config) {
  const bool as_model = router(config).initializer() == AS_MODEL;
  return starts_at_zeros(config) || router(config).initializer() == OWN_NORMAL ||
         (as_model && config.model().initializer() == NORMAL);
}

bool reads_router_initializer(const RunConfig& config) {
  const Model& model = config.model();
  const bool is_the_models = router(config).initializer() == OWN_NORMAL &&
                             model.initializer() == NORMAL && model.init_cut() == 0;
  return !starts_at_zeros(config) && !is_the_models;
}

constexpr const char* kPosition = "model.attention.position";
constexpr const char* kPolicy = "model.moe.capacity.policy";
constexpr const char* kSelection = "model.moe.router.selection";
constexpr const char* kGroupsOfExperts = "model.moe.router.num_groups";
constexpr const char* kHierarchy = "model.moe.router.hierarchy";
constexpr const char* kWeighting = "model.moe.router.weighting";

constexpr Term kRouter{kWeighting, "not EQUAL"};
constexpr Term kThreshold{"model.moe.router.second_choice", "AT_RANDOM or ABOVE_THRESHOLD"};
constexpr Term kGroups{kGroupsOfExperts, "not 1"};
constexpr Term kCapacity{kPolicy, "not NO_DROP or DEVICE_BUDGET"};  // of an expert, not of a device
constexpr Term kFactors{"model.moe.capacity.fixed_slots", "0"};
constexpr Term kExperts{"model.moe", "set"};

constexpr const char* kNoRouter = "weighting EQUAL has no router";
constexpr const char* kByFactor =
    "only a capacity by factors has it, which policies NO_DROP and DEVICE_BUDGET and fixed_slots "
    "have not";
constexpr const char* kRoutingGroups =
    "only drops, statistics PER_GROUP and selections SINKHORN and BALANCED_ASSIGNMENT look at "
    "routing groups";
constexpr const char* kBalance = "no router here has a choice of tokens to balance";
constexpr const char* kValidation = "there is no validation source";

constexpr Use kUses[] = {
    Use("model.d_ff", {{"model.moe.stacking"}},
        "every FFN of the model is an expert of width model.moe.d_ff", "0", may_have_dense_ffn),
    Use("model.ffn", {{"model.moe.ffn"}},
        "every FFN of the model is an expert of a kind of its own", nullptr, reads_dense_kind),
    Use("model.norm_cast", {{"model.norm"}}, "only RMSNorm rounds before or after its weight",
        nullptr, may_have_rms_norm),
    Use("model.attention.rope_theta", {{kPosition, "ROPE"}},
        "only position ROPE turns queries and keys"),
    Use("model.attention.max_positions", {{kPosition, "LEARNED_POSITIONS"}},
        "only position LEARNED_POSITIONS has a table of them"),
    Use("model.init_std", {{"model.initializer", "NORMAL"}},
        "only initializer NORMAL has a deviation"),
    Use("model.scale_init_by_depth", {{"model.architecture"}},
        "only transformers and experts write into a residual stream", "false", has_residual),
    Use("model.moe.num_devices", {{kPolicy}},
        "only device losses and policy DEVICE_BUDGET look at devices", nullptr, has_device_groups),
    Use("model.moe.dead_expert_noise", {{"model.moe.dead_expert_action", "REINITIALIZE"}},
        "only REINITIALIZE adds noise"),
    Use("model.moe.layer_aggregation", {}, "the router has no losses to aggregate",
        "SUM_OVER_LAYERS", has_router_losses),
    Use("model.moe.router.score", {kRouter}, kNoRouter, "SOFTMAX"),
    Use("model.moe.router.precision", {kRouter}, kNoRouter, "ROUTER_FP32"),
    Use("model.moe.router.input_jitter", {kRouter}, kNoRouter, "0"),
    Use("model.moe.router.input_dropout", {kRouter}, kNoRouter, "0"),
    Use("model.moe.router.initializer", {kRouter, {"model.moe.router.init_std"}},
        "it changes nothing: there is no router, init_std 0 has it start at zeros, or OWN_NORMAL "
        "is what the model's NORMAL without init_cut does",
        "AS_MODEL", reads_router_initializer),
    Use("model.moe.router.init_std", {kRouter, {"model.moe.router.initializer"}},
        "only a router of initializer OWN_NORMAL, or AS_MODEL with model.initializer NORMAL, has a "
        "deviation (others take 0 alone, for zeros; weighting EQUAL has no router)",
        nullptr, reads_router_deviation),
    Use("model.moe.router.noise_std", {{"model.moe.router.noise", "FIXED_NOISE"}},
        "only noise FIXED_NOISE has a deviation of its own"),
    Use("model.moe.router.weight_norm", {{kWeighting, "RENORMALIZE or RENORMALIZE_KEPT"}},
        "only weightings RENORMALIZE and RENORMALIZE_KEPT divide by a norm", "1"),
    Use("model.moe.router.second_choice_threshold", {kThreshold},
        "only second_choice AT_RANDOM and ABOVE_THRESHOLD compare with it"),
    Use("model.moe.router.later_choice_threshold", {kThreshold, {"model.moe.top_k", "above 2"}},
        "only third and later choices under second_choice AT_RANDOM and ABOVE_THRESHOLD are "
        "compared with it"),
    Use("model.moe.router.group_top_k", {kGroups}, "there is one group of experts"),
    Use("model.moe.router.group_score_experts", {kGroups, {kHierarchy, "ONE_LEVEL"}},
        "only ONE_LEVEL of several num_groups scores groups by their experts"),
    Use("model.moe.router.bias_update_rate", {{"model.moe.router.selection_bias", "true"}},
        "only a selection_bias moves"),
    Use("model.moe.capacity.train_factor", {{kPolicy, "not NO_DROP"}, kFactors},
        "policy NO_DROP has no capacity, and that of fixed_slots is these"),
    Use("model.moe.capacity.eval_factor",
        {kCapacity, kFactors, {kSelection, "not STRICTLY_BALANCED"}},
        "only a capacity by factors that holds in evaluation has it, which policies NO_DROP and "
        "DEVICE_BUDGET, fixed_slots and selection STRICTLY_BALANCED have not"),
    Use("model.moe.capacity.counts_k", {kCapacity, kFactors}, kByFactor),
    Use("model.moe.capacity.minimum", {kCapacity, kFactors}, kByFactor),
    Use("model.moe.capacity.rounding", {kCapacity, kFactors}, kByFactor),
    Use("model.moe.capacity.multiple_of", {kCapacity, kFactors}, kByFactor),
    Use("model.moe.capacity.fixed_slots", {{kPolicy, "not NO_DROP"}},
        "only policies that drop have a capacity"),
    Use("model.moe.capacity.rounds", {{kPolicy, "NEXT_FREE"}},
        "only policy NEXT_FREE tries further experts"),
    Use("model.moe.capacity.exempt_share", {{kPolicy, "DEVICE_BUDGET"}},
        "only policy DEVICE_BUDGET exempts sequences"),
    Use("model.moe.capacity.second_level_factor",
        {{kHierarchy, "TWO_LEVEL_BY_IMPORTANCE"}, kCapacity},
        "only hierarchy TWO_LEVEL_BY_IMPORTANCE has a capacity within groups, unless policy is "
        "NO_DROP"),
    Use("model.moe.capacity.group_sequences", {{kPolicy}, {kSelection}}, kRoutingGroups, "1",
        has_routing_groups),
    Use("model.moe.capacity.max_group_tokens", {{kPolicy}, {kSelection}}, kRoutingGroups, "0",
        has_routing_groups),
    Use("model.moe.capacity.group_rule", {{"model.moe.capacity.max_group_tokens", "not 0"}},
        "only groups of max_group_tokens are counted by a rule"),
    Use("model.moe.balance_loss.statistics", {{kSelection}, kRouter}, kBalance, "GLOBAL_BATCH",
        has_balance),
    Use("model.moe.balance_loss.load", {{kSelection}, kRouter}, kBalance, "ALL_CHOICES",
        has_balance),
    Use("model.moe.balance_loss.second_place", {{kSelection}, kRouter}, kBalance, "false",
        has_balance),
    Use("data.tokenizer", {{"data.synthetic", "unset"}, {"data.table", "unset"}},
        "only text in files is made of its tokens"),
    Use("data.attend_across_documents", {{"data.objective", "NEXT_TOKEN"}},
        "only objective NEXT_TOKEN has rows of several documents, and generated domains have not",
        nullptr, has_documents),
    Use("optimizer.min_lr", {{"optimizer.schedule", "not CONSTANT"}},
        "only a rate that decays has an end"),
    Use("optimizer.decay_norms", {},
        "only the norms of transformers are decayed, by a weight_decay above 0", nullptr,
        decays_norms),
    Use("optimizer.decay_embeddings", {},
        "only the embeddings of texts are decayed, by a weight_decay above 0", nullptr,
        decays_embeddings),
    Use("optimizer.adafactor.least_scale", {{"optimizer.adafactor.scale_by_parameter", "true"}},
        "only scale_by_parameter scales the rate"),
    Use("eval.every", {}, kValidation, "0", evaluates),
    Use("eval.sequences", {}, kValidation, nullptr, evaluates),
    Use("log.dead_after_steps", {kExperts}, "only experts can be without tokens"),
    Use("log.load_every", {kExperts}, "only experts have a load"),
};

bool is_read(const Use& use, const RunConfig& config) {
  const auto allows = [&](const Term& term) { return !term.wanted || holds(term, config); };
  return std::ranges::all_of(use.by.all, allows) && (!use.also || use.also(config));
}

}  // namespace

void clear_unused_fields(const RunConfig& given, RunConfig& config) {
  const RunConfig filled = config;
  for (const Use& use : kUses)
    if (!use.neutral && !has_at(given, use.path) && !is_read(use, filled))
      clear_at(config, use.path);
}

std::vector<std::string> unused_fields(const RunConfig& config) {
  std::vector<std::string> lines;
  for (const Use& use : kUses) {
    const auto value = text_at(config, use.path);
    if (!value || (use.neutral && *value == use.neutral) || is_read(use, config)) continue;
    std::string found;
    for (const Term& term : use.by.all)
      if (const auto decider = term.path ? text_at(config, term.path) : std::nullopt)
        found +=
            fmt::format("{}{} is {}", found.empty() ? ", while " : " and ", term.path, *decider);
    lines.push_back(
        fmt::format("{} ({}) is set, but {}{}; leave it out", use.path, *value, use.reader, found));
  }
  return lines;
}

}  // namespace switchyard::config
