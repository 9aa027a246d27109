// Rules about routers, capacity and the router's losses: what does not go together, why, and what
// to do instead.

#include "core/config/validate_rules.h"

namespace switchyard::config {

namespace {

// Divided by the sum over what is kept, one weight is always 1. Of experts that choose, several may
// keep a token.
void check_kept_weights(const Moe& moe, Findings& findings) {
  const Router& router = moe.router();
  const auto always_one = [&](bool holds, const std::string& what) {
    if (holds)
      findings.add(
          "model.moe.router.weighting (RENORMALIZE_KEPT) must not be used with {}, which keeps one "
          "expert of a token: its weight is always 1 and the router would get no gradient; use RAW",
          what);
  };
  if (router.weighting() != RENORMALIZE_KEPT || router.selection() == STRICTLY_BALANCED) return;
  always_one(moe.top_k() == 1, "model.moe.top_k (1)");
  always_one(moe.capacity().policy() == NEXT_FREE, "model.moe.capacity.policy NEXT_FREE");
  always_one(router.second_choice() == NEVER, "model.moe.router.second_choice NEVER");
}

void check_choices(const Moe& moe, Findings& findings) {
  const Router& router = moe.router();
  if (moe.has_num_experts() && moe.num_experts() > 0 && moe.top_k() > moe.num_experts())
    findings.add(
        "model.moe.top_k ({}) must be at most model.moe.num_experts ({}); lower top_k or raise "
        "num_experts",
        moe.top_k(), moe.num_experts());
  if (moe.top_k() == 1 && router.weighting() == RENORMALIZE)
    findings.add(
        "model.moe.router.weighting (RENORMALIZE) must not be used with model.moe.top_k (1): the "
        "one weight is always 1 and the router would get no gradient; use RAW");
  check_kept_weights(moe, findings);
  if (router.weighting() == EQUAL && router.selection() != HASH)
    findings.add(
        "model.moe.router.weighting (EQUAL) must be used with selection HASH alone: the router "
        "would choose by scores that get no gradient; use RENORMALIZE or RAW");
}

void check_second_choice(const Moe& moe, Findings& findings) {
  const Router& router = moe.router();
  const int later = moe.top_k() - 1;  // choices after the first
  if (router.second_choice() > ALWAYS && later < 1)
    findings.add(
        "model.moe.router.second_choice ({}) must be ALWAYS with model.moe.top_k ({}): there is no "
        "second choice; use ALWAYS or raise top_k",
        SecondChoice_Name(router.second_choice()), moe.top_k());
  if (router.second_choice() == SAMPLED_SECOND && later > 1)
    findings.add(
        "model.moe.router.second_choice (SAMPLED_SECOND) must be used with model.moe.top_k 2, got "
        "{}; set top_k to 2, or use selection SAMPLED to draw every choice",
        moe.top_k());
  if (router.second_choice() > ALWAYS && router.selection() != TOP_K)
    findings.add(
        "model.moe.router.second_choice ({}) must be used with selection TOP_K, got {}; use ALWAYS "
        "or TOP_K",
        SecondChoice_Name(router.second_choice()), Selection_Name(router.selection()));
  if (router.second_choice() == SAMPLED_SECOND &&
      (router.selection_bias() || router.num_groups() > 1))
    findings.add(
        "model.moe.router.second_choice (SAMPLED_SECOND) must not be used with selection_bias or "
        "num_groups: it draws from the scores themselves; use ALWAYS or leave them out");
}

void check_noise(const Router& router, Findings& findings) {
  const std::string& noise = Noise_Name(router.noise());
  if (router.noise() <= NO_NOISE) return;
  if (router.selection() != TOP_K)
    findings.add(
        "model.moe.router.noise ({}) must be used with selection TOP_K, got {}: noise is there to "
        "vary which experts are the best; use NO_NOISE or TOP_K",
        noise, Selection_Name(router.selection()));
  if (router.score() == SIGMOID)
    findings.add(
        "model.moe.router.noise ({}) must be used with score SOFTMAX; its load estimate compares "
        "noisy logits; use SOFTMAX or NO_NOISE",
        noise);
  if (router.selection_bias())
    findings.add(
        "model.moe.router.selection_bias must not be used with noise {}: the load estimate knows "
        "no bias; choose one of them",
        noise);
  if (router.noise() == FIXED_NOISE && router.hierarchy() > ONE_LEVEL)
    findings.add(
        "model.moe.router.noise (FIXED_NOISE) must be used with hierarchy ONE_LEVEL, got {}: no "
        "published two-level gate has it; use LEARNED_NOISE or NO_NOISE",
        Hierarchy_Name(router.hierarchy()));
}

void check_precision(const Router& router, Findings& findings) {
  if (router.precision() == ROUTER_BF16 && router.hierarchy() > ONE_LEVEL)
    findings.add(
        "model.moe.router.precision (ROUTER_BF16) must be used with hierarchy ONE_LEVEL, got {}; "
        "leave it out",
        Hierarchy_Name(router.hierarchy()));
}

void check_selection_bias(const Moe& moe, Findings& findings) {
  const Router& router = moe.router();
  if (router.selection_bias() && router.selection() != TOP_K)
    findings.add(
        "model.moe.router.selection_bias must be used with selection TOP_K, got {}; leave it out "
        "or use TOP_K",
        Selection_Name(router.selection()));
  if (moe.dead_expert_action() == RAISE_BIAS && !router.selection_bias())
    findings.add(
        "model.moe.dead_expert_action (RAISE_BIAS) must be used with router.selection_bias; set "
        "that, or use REINITIALIZE");
}

// Losses that could move nothing.
void check_losses(const Moe& moe, Findings& findings) {
  const Router& router = moe.router();
  if (router.selection() == HASH && router.weighting() == EQUAL) {
    const auto unused = [&](double coefficient, const char* field) {
      if (coefficient > 0)
        findings.add(
            "model.moe.{} ({}) must be 0 with selection HASH and weighting EQUAL, which have no "
            "router to train; leave it out",
            field, coefficient);
    };
    unused(moe.balance_loss().coefficient(), "balance_loss.coefficient");
    unused(moe.z_loss_coefficient(), "z_loss_coefficient");
    unused(moe.importance_loss_coefficient(), "importance_loss_coefficient");
  }
  if (moe.load_loss_coefficient() > 0 && router.noise() <= NO_NOISE)
    findings.add(
        "model.moe.load_loss_coefficient ({}) must be 0 without noise: a counted load has no "
        "gradient; set router.noise or use balance_loss",
        moe.load_loss_coefficient());
  if (moe.load_loss_coefficient() > 0 && router.num_groups() > 1 && router.hierarchy() == ONE_LEVEL)
    findings.add(
        "model.moe.load_loss_coefficient ({}) must be 0 with num_groups ({}): the load estimate "
        "knows no groups; use balance_loss",
        moe.load_loss_coefficient(), router.num_groups());
  if (moe.load_loss_coefficient() > 0 && moe.top_k() == moe.num_experts())
    findings.add(
        "model.moe.load_loss_coefficient ({}) must be 0 with top_k = num_experts ({}): every "
        "expert has every token; leave it out",
        moe.load_loss_coefficient(), moe.top_k());
}

// The importance of experts that a token only tries, or that choose by themselves.
void check_importance(const Moe& moe, Findings& findings) {
  if (moe.importance_loss_coefficient() <= 0) return;
  const Selection selection = moe.router().selection();
  if (moe.capacity().policy() == NEXT_FREE)
    findings.add(
        "model.moe.importance_loss_coefficient ({}) must be 0 with capacity.policy NEXT_FREE, "
        "where a token gets one of the experts it names; use balance_loss",
        moe.importance_loss_coefficient());
  if (selection == EXPERT_CHOICE || selection == STRICTLY_BALANCED)
    findings.add(
        "model.moe.importance_loss_coefficient ({}) must be 0 with selection {}: every expert "
        "takes the same number of tokens; leave it out",
        moe.importance_loss_coefficient(), Selection_Name(selection));
}

// DeepSeek's groups of experts.
void check_devices(const Moe& moe, Findings& findings) {
  const BalanceLoss& balance = moe.balance_loss();
  const int devices = moe.num_devices();
  const bool budget = moe.capacity().policy() == DEVICE_BUDGET;
  const bool is_used =
      budget || balance.device_coefficient() > 0 || balance.communication_coefficient() > 0;
  if (is_used && devices < 2)
    findings.add(
        "model.moe.num_devices ({}) must be at least 2 with device losses or policy DEVICE_BUDGET; "
        "set it, or router.num_groups",
        devices);
  if (devices > 1 && moe.num_experts() > 0 && moe.num_experts() % devices != 0)
    findings.add(
        "model.moe.num_devices ({}) must divide model.moe.num_experts ({}); choose a divisor",
        devices, moe.num_experts());
  if (moe.router().selection() == STRICTLY_BALANCED &&
      (balance.device_coefficient() > 0 || balance.communication_coefficient() > 0))
    findings.add(
        "model.moe.balance_loss.device_coefficient ({}) and communication_coefficient ({}) must be "
        "0 with selection STRICTLY_BALANCED: every expert takes the same number of tokens; leave "
        "them out",
        balance.device_coefficient(), balance.communication_coefficient());
  if (balance.communication_coefficient() > 0 &&
      (moe.router().num_groups() < 2 || moe.router().num_groups() != devices))
    findings.add(
        "model.moe.balance_loss.communication_coefficient ({}) must be used with router.num_groups "
        "({}) equal to num_devices ({}): it compares with the group_top_k devices that a token may "
        "reach; set num_groups or leave it out",
        balance.communication_coefficient(), moe.router().num_groups(), devices);
}

void check_balance_loss(const Moe& moe, Findings& findings) {
  const BalanceLoss& balance = moe.balance_loss();
  if (balance.second_place() && moe.top_k() < 2)
    findings.add(
        "model.moe.balance_loss.second_place must be false with model.moe.top_k (1): there is no "
        "second choice; leave it out");
  if (balance.load() == UNBIASED_CHOICES && !moe.router().selection_bias() &&
      moe.router().num_groups() == 1)
    findings.add(
        "model.moe.balance_loss.load (UNBIASED_CHOICES) must be used with router.selection_bias or "
        "num_groups, which it leaves out; use ALL_CHOICES");
  if (moe.layer_aggregation() == POOLED_LAYERS &&
      (balance.second_place() || balance.device_coefficient() > 0 ||
       balance.communication_coefficient() > 0))
    findings.add(
        "model.moe.layer_aggregation (POOLED_LAYERS) must be used without second_place, "
        "device_coefficient and communication_coefficient; use MEAN_OVER_LAYERS or leave them out");
  if (moe.router().selection() == EXPERT_CHOICE && balance.device_coefficient() > 0)
    findings.add(
        "model.moe.balance_loss.device_coefficient ({}) must be 0 with selection EXPERT_CHOICE: "
        "every expert takes the same number of tokens; leave it out",
        balance.device_coefficient());
}

void check_rounds(const Moe& moe, Findings& findings) {
  const Capacity& capacity = moe.capacity();
  if (capacity.policy() == NEXT_FREE && moe.num_experts() > 0 &&
      capacity.rounds() > moe.num_experts())
    findings.add(
        "model.moe.capacity.rounds ({}) must be at most model.moe.num_experts ({}); lower it",
        capacity.rounds(), moe.num_experts());
  if (capacity.policy() == NEXT_FREE && moe.router().second_choice() > ALWAYS)
    findings.add(
        "model.moe.router.second_choice ({}) must be ALWAYS with capacity.policy NEXT_FREE, where "
        "later choices stand in for the first; leave it out",
        SecondChoice_Name(moe.router().second_choice()));
  if (capacity.policy() == NEXT_FREE && moe.router().weighting() == EQUAL)
    findings.add(
        "model.moe.capacity.policy (NEXT_FREE) must not be used with selection HASH and weighting "
        "EQUAL: each weight would be 1 / rounds ({}), for the one expert that a token gets; set "
        "weighting: RAW, or use another policy",
        capacity.rounds());
}

void check_fixed_slots(const Capacity& capacity, Findings& findings) {
  if (capacity.policy() == DEVICE_BUDGET && capacity.fixed_slots() > 0)
    findings.add(
        "model.moe.capacity.fixed_slots ({}) must be 0 with policy DEVICE_BUDGET, whose budget is "
        "the devices', not the experts'; leave it out",
        capacity.fixed_slots());
}

}  // namespace

void check_routing(const Moe& moe, Findings& findings) {
  check_choices(moe, findings);
  check_second_choice(moe, findings);
  check_groups(moe, findings);
  check_noise(moe.router(), findings);
  check_precision(moe.router(), findings);
  check_selection_bias(moe, findings);
  check_losses(moe, findings);
  check_importance(moe, findings);
  check_balance_loss(moe, findings);
  check_devices(moe, findings);
  check_balanced_selection(moe, findings);
  check_rounds(moe, findings);
  check_fixed_slots(moe.capacity(), findings);
}

}  // namespace switchyard::config
