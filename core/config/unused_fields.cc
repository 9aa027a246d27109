#include "core/config/unused_fields.h"

#include <algorithm>
#include <string_view>

#include <fmt/format.h>

#include "core/config/fields.h"
#include "core/config/layers.h"

namespace switchyard::config {
namespace {

// A field, when something reads it, and who does.
struct Use {
  const char* path;
  bool (*is_read)(const RunConfig&);
  const char* reader;            // "only policy NEXT_FREE tries further experts"
  const char* deciders[2] = {};  // fields by which nothing reads it, to be shown
  // The value that is true where nothing reads the field: it may be set there, and the defaults do
  // so. Null: there the field is unset.
  const char* neutral = nullptr;
};

const Moe& moe(const RunConfig& config) { return config.model().moe(); }
const Router& router(const RunConfig& config) { return moe(config).router(); }
const Capacity& capacity(const RunConfig& config) { return moe(config).capacity(); }

bool is_scheduled(const RunConfig& config, std::string_view field) {
  return std::ranges::any_of(config.schedule(), [&](const auto& s) { return s.field() == field; });
}

// Above zero, at the start or later.
bool is_on(const RunConfig& config, const char* coefficient) {
  return real_at(config, coefficient).value_or(0) > 0 || is_scheduled(config, coefficient);
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

// Equal weights need no scores, so that there is no router to train.
bool has_router(const RunConfig& config) { return router(config).weighting() != EQUAL; }

// Whether some routers' tokens choose, by scores, so that balance is not given.
bool has_balance(const RunConfig& config) {
  const Selection selection = router(config).selection();
  return has_router(config) && selection != STRICTLY_BALANCED &&
         (selection != EXPERT_CHOICE || decoder_chooses_by_token(config.model()));
}

// Of an expert, not of a device.
bool has_capacity(const RunConfig& config) {
  return capacity(config).policy() != NO_DROP && capacity(config).policy() != DEVICE_BUDGET;
}
bool has_capacity_by_factor(const RunConfig& config) {
  return has_capacity(config) && capacity(config).fixed_slots() == 0;
}

bool has_routing_groups(const RunConfig& config) {
  const Selection selection = router(config).selection();
  return capacity(config).policy() != NO_DROP || selection == SINKHORN ||
         selection == BALANCED_ASSIGNMENT ||
         (has_balance(config) && moe(config).balance_loss().statistics() == PER_GROUP);
}

bool has_threshold(const RunConfig& config) {
  const SecondChoice choice = router(config).second_choice();
  return choice == AT_RANDOM || choice == ABOVE_THRESHOLD;
}

bool divides_weights(const RunConfig& config) {
  const Weighting weighting = router(config).weighting();
  return weighting == RENORMALIZE || weighting == RENORMALIZE_KEPT;
}

bool evaluates(const RunConfig& config) { return has_validation(config.data()); }

bool has_rms_norm(const RunConfig& config) {
  const Attention& attention = config.model().attention();
  return config.model().norm() == RMS_NORM || attention.qk_norm() > NO_QK_NORM ||
         attention.has_latent();
}

// The router's matrices as the model has all, or as its own rule says.
bool reads_router_deviation(const RunConfig& config) {
  const bool as_model = router(config).initializer() == AS_MODEL;
  const bool zeros = router(config).has_init_std() && router(config).init_std() == 0;
  return has_router(config) && (zeros || router(config).initializer() == OWN_NORMAL ||
                                (as_model && config.model().initializer() == NORMAL));
}

bool reads_router_initializer(const RunConfig& config) {
  const Model& model = config.model();
  const bool zeros = router(config).has_init_std() && router(config).init_std() == 0;
  const bool is_the_models = router(config).initializer() == OWN_NORMAL &&
                             model.initializer() == NORMAL && model.init_cut() == 0;
  return has_router(config) && !zeros && !is_the_models;
}

constexpr const char* kByFactor =
    "only a capacity by factors has it, which policies NO_DROP and DEVICE_BUDGET and fixed_slots "
    "have not";
constexpr const char* kGroups =
    "only drops, statistics PER_GROUP and selections SINKHORN and BALANCED_ASSIGNMENT look at "
    "routing groups";
constexpr const char* kBalance = "no router here has a choice of tokens to balance";
constexpr const char* kNoRouter = "weighting EQUAL has no router";
constexpr const char* kPolicy = "model.moe.capacity.policy";
constexpr const char* kFixedSlots = "model.moe.capacity.fixed_slots";
constexpr const char* kWeighting = "model.moe.router.weighting";
constexpr const char* kSelection = "model.moe.router.selection";
constexpr const char* kPosition = "model.attention.position";
constexpr const char* kSecondChoice = "model.moe.router.second_choice";
constexpr const char* kHierarchy = "model.moe.router.hierarchy";
constexpr const char* kGroupsOfExperts = "model.moe.router.num_groups";

const Use kUses[] = {
    {"model.d_ff",
     // Other architectures refuse it by a rule of their own.
     [](const RunConfig& c) { return !has_attention(c.model()) || !has_only_experts(c); },
     "every FFN of the model is an expert of width model.moe.d_ff",
     {"model.moe.stacking"},
     "0"},
    {"model.ffn",
     [](const RunConfig& c) { return !has_only_experts(c) || moe(c).ffn() == c.model().ffn(); },
     "every FFN of the model is an expert of a kind of its own",
     {"model.moe.ffn"}},
    {"model.norm_cast",
     [](const RunConfig& c) { return !has_attention(c.model()) || has_rms_norm(c); },
     "only RMSNorm rounds before or after its weight",
     {"model.norm"}},
    {"model.attention.rope_theta",
     [](const RunConfig& c) { return c.model().attention().position() == ROPE; },
     "only position ROPE turns queries and keys",
     {kPosition}},
    {"model.attention.max_positions",
     [](const RunConfig& c) { return c.model().attention().position() == LEARNED_POSITIONS; },
     "only position LEARNED_POSITIONS has a table of them",
     {kPosition}},
    {"model.init_std",
     [](const RunConfig& c) { return c.model().initializer() == NORMAL; },
     "only initializer NORMAL has a deviation",
     {"model.initializer"}},
    {"model.scale_init_by_depth",
     [](const RunConfig& c) { return has_attention(c.model()) || c.model().has_moe(); },
     "only transformers and experts write into a residual stream",
     {"model.architecture"},
     "false"},
    {"model.moe.num_devices",
     has_device_groups,
     "only device losses and policy DEVICE_BUDGET look at devices",
     {kPolicy}},
    {"model.moe.dead_expert_noise",
     [](const RunConfig& c) { return moe(c).dead_expert_action() == REINITIALIZE; },
     "only REINITIALIZE adds noise",
     {"model.moe.dead_expert_action"}},
    {"model.moe.layer_aggregation",
     has_router_losses,
     "the router has no losses to aggregate",
     {},
     "SUM_OVER_LAYERS"},
    {"model.moe.router.score", has_router, kNoRouter, {kWeighting}, "SOFTMAX"},
    {"model.moe.router.precision", has_router, kNoRouter, {kWeighting}, "ROUTER_FP32"},
    {"model.moe.router.input_jitter", has_router, kNoRouter, {kWeighting}, "0"},
    {"model.moe.router.input_dropout", has_router, kNoRouter, {kWeighting}, "0"},
    {"model.moe.router.initializer",
     reads_router_initializer,
     "it changes nothing: there is no router, init_std 0 has it start at zeros, or OWN_NORMAL is "
     "what the model's NORMAL without init_cut does",
     {kWeighting, "model.moe.router.init_std"},
     "AS_MODEL"},
    {"model.moe.router.init_std",
     reads_router_deviation,
     "only a router of initializer OWN_NORMAL, or AS_MODEL with model.initializer NORMAL, has a "
     "deviation (others take 0 alone, for zeros; weighting EQUAL has no router)",
     {kWeighting, "model.moe.router.initializer"}},
    {"model.moe.router.noise_std",
     [](const RunConfig& c) { return router(c).noise() == FIXED_NOISE; },
     "only noise FIXED_NOISE has a deviation of its own",
     {"model.moe.router.noise"}},
    {"model.moe.router.weight_norm",
     divides_weights,
     "only weightings RENORMALIZE and RENORMALIZE_KEPT divide by a norm",
     {kWeighting},
     "1"},
    {"model.moe.router.second_choice_threshold",
     has_threshold,
     "only second_choice AT_RANDOM and ABOVE_THRESHOLD compare with it",
     {kSecondChoice}},
    {"model.moe.router.later_choice_threshold",
     [](const RunConfig& c) { return has_threshold(c) && moe(c).top_k() > 2; },
     "only third and later choices under second_choice AT_RANDOM and ABOVE_THRESHOLD are compared "
     "with it",
     {kSecondChoice, "model.moe.top_k"}},
    {"model.moe.router.group_top_k",
     [](const RunConfig& c) { return router(c).num_groups() != 1; },
     "there is one group of experts",
     {kGroupsOfExperts}},
    {"model.moe.router.group_score_experts",
     [](const RunConfig& c) {
       return router(c).num_groups() != 1 && router(c).hierarchy() == ONE_LEVEL;
     },
     "only ONE_LEVEL of several num_groups scores groups by their experts",
     {kGroupsOfExperts, kHierarchy}},
    {"model.moe.router.bias_update_rate",
     [](const RunConfig& c) { return router(c).selection_bias(); },
     "only a selection_bias moves",
     {"model.moe.router.selection_bias"}},
    {"model.moe.capacity.train_factor",
     [](const RunConfig& c) {
       return capacity(c).policy() != NO_DROP && capacity(c).fixed_slots() == 0;
     },
     "policy NO_DROP has no capacity, and that of fixed_slots is these",
     {kPolicy, kFixedSlots}},
    {"model.moe.capacity.eval_factor",
     [](const RunConfig& c) {
       return has_capacity_by_factor(c) && router(c).selection() != STRICTLY_BALANCED;
     },
     "only a capacity by factors that holds in evaluation has it, which policies NO_DROP and "
     "DEVICE_BUDGET, fixed_slots and selection STRICTLY_BALANCED have not",
     {kPolicy, kFixedSlots}},
    {"model.moe.capacity.counts_k", has_capacity_by_factor, kByFactor, {kPolicy, kFixedSlots}},
    {"model.moe.capacity.minimum", has_capacity_by_factor, kByFactor, {kPolicy, kFixedSlots}},
    {"model.moe.capacity.rounding", has_capacity_by_factor, kByFactor, {kPolicy, kFixedSlots}},
    {"model.moe.capacity.multiple_of", has_capacity_by_factor, kByFactor, {kPolicy, kFixedSlots}},
    {"model.moe.capacity.fixed_slots",
     [](const RunConfig& c) { return capacity(c).policy() != NO_DROP; },
     "policy NO_DROP has no capacity"},
    {"model.moe.capacity.rounds",
     [](const RunConfig& c) { return capacity(c).policy() == NEXT_FREE; },
     "only policy NEXT_FREE tries further experts",
     {kPolicy}},
    {"model.moe.capacity.exempt_share",
     [](const RunConfig& c) { return capacity(c).policy() == DEVICE_BUDGET; },
     "only policy DEVICE_BUDGET exempts sequences",
     {kPolicy}},
    {"model.moe.capacity.second_level_factor",
     [](const RunConfig& c) {
       return has_capacity(c) && router(c).hierarchy() == TWO_LEVEL_BY_IMPORTANCE;
     },
     "only hierarchy TWO_LEVEL_BY_IMPORTANCE has a capacity within groups, unless policy is "
     "NO_DROP",
     {kHierarchy, kPolicy}},
    {"model.moe.capacity.group_sequences", has_routing_groups, kGroups, {kPolicy, kSelection}, "1"},
    {"model.moe.capacity.max_group_tokens",
     has_routing_groups,
     kGroups,
     {kPolicy, kSelection},
     "0"},
    {"model.moe.capacity.group_rule",
     [](const RunConfig& c) { return capacity(c).max_group_tokens() != 0; },
     "only groups of max_group_tokens are counted by a rule"},
    {"model.moe.balance_loss.statistics",
     has_balance,
     kBalance,
     {kSelection, kWeighting},
     "GLOBAL_BATCH"},
    {"model.moe.balance_loss.load", has_balance, kBalance, {kSelection, kWeighting}, "ALL_CHOICES"},
    {"model.moe.balance_loss.second_place",
     has_balance,
     kBalance,
     {kSelection, kWeighting},
     "false"},
    {"data.tokenizer",
     [](const RunConfig& c) { return !c.data().has_synthetic() && !c.data().has_table(); },
     "only text in files is made of its tokens"},
    {"data.attend_across_documents",
     [](const RunConfig& c) {
       return c.data().objective() == NEXT_TOKEN && c.data().synthetic().kind() != DOMAIN_BIGRAMS;
     },
     "only objective NEXT_TOKEN has rows of several documents, and generated domains have not",
     {"data.objective"}},
    {"optimizer.min_lr", [](const RunConfig& c) { return c.optimizer().schedule() != CONSTANT; },
     "schedule CONSTANT stays at lr"},
    {"optimizer.decay_norms",
     [](const RunConfig& c) { return has_norms(c.model()) && is_on(c, "optimizer.weight_decay"); },
     "only the norms of transformers are decayed, by a weight_decay above 0"},
    {"optimizer.decay_embeddings",
     [](const RunConfig& c) {
       return has_embedding(c.model()) && is_on(c, "optimizer.weight_decay");
     },
     "only the embeddings of texts are decayed, by a weight_decay above 0"},
    {"optimizer.adafactor.least_scale",
     [](const RunConfig& c) { return c.optimizer().adafactor().scale_by_parameter(); },
     "only scale_by_parameter scales the rate"},
    {"eval.every", evaluates, "there is no validation source", {}, "0"},
    {"eval.sequences", evaluates, "there is no validation source"},
    {"log.dead_after_steps", [](const RunConfig& c) { return c.model().has_moe(); },
     "only experts can be without tokens"},
    {"log.load_every", [](const RunConfig& c) { return c.model().has_moe(); },
     "only experts have a load"},
};

}  // namespace

void clear_unused_fields(const RunConfig& given, RunConfig& config) {
  const RunConfig filled = config;
  for (const Use& use : kUses)
    if (!use.neutral && !has_at(given, use.path) && !use.is_read(filled))
      clear_at(config, use.path);
}

void drop_unused_fields(RunConfig& config) {
  const RunConfig filled = config;
  for (const Use& use : kUses)
    if (has_at(filled, use.path) && !use.is_read(filled)) clear_at(config, use.path);
  for (Source& source : *config.mutable_data()->mutable_validation()) source.clear_weight();
}

std::vector<std::string> unused_fields(const RunConfig& config) {
  std::vector<std::string> lines;
  for (const Use& use : kUses) {
    const auto value = text_at(config, use.path);
    if (!value || (use.neutral && *value == use.neutral) || use.is_read(config)) continue;
    std::string found;
    for (const char* decider : use.deciders)
      if (decider && has_at(config, decider))
        found += fmt::format("{}{} is {}", found.empty() ? ", while " : " and ", decider,
                             *text_at(config, decider));
    lines.push_back(
        fmt::format("{} ({}) is set, but {}{}; leave it out", use.path, *value, use.reader, found));
  }
  return lines;
}

}  // namespace switchyard::config
