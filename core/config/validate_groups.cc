// Rules about groups: of experts (DeepSeek's, the two-level gate's) and of tokens.

#include "core/config/validate_rules.h"

namespace switchyard::config {
namespace {

// All choices of a token come from the groups it keeps; NEXT_FREE has as many as rounds.
void check_kept_groups(const Moe& moe, int kept, int size, Findings& findings) {
  const bool tries = moe.capacity().policy() == NEXT_FREE;
  const int choices = tries ? moe.capacity().rounds() : moe.top_k();
  if (int64_t{kept} * size >= choices) return;
  const char* field = tries ? "capacity.rounds" : "top_k";
  findings.add(
      "model.moe.router.group_top_k ({}) groups of {} experts hold fewer than model.moe.{} ({}) "
      "experts; raise group_top_k or lower {}",
      kept, size, field, choices, tries ? "rounds" : "num_groups");
}

void check_group_sizes(const Moe& moe, Findings& findings) {
  const Router& router = moe.router();
  const int groups = router.num_groups(), kept = router.group_top_k(), experts = moe.num_experts();
  if (groups <= 1 || experts < 1 || kept < 1) return;
  if (router.selection() != TOP_K)
    findings.add(
        "model.moe.router.num_groups ({}) must be 1 with selection {}, which does not go by scores "
        "within groups; use TOP_K",
        groups, Selection_Name(router.selection()));
  if (kept > groups)
    findings.add(
        "model.moe.router.group_top_k ({}) must be at most model.moe.router.num_groups ({}); lower "
        "it",
        kept, groups);
  const bool names_devices = moe.has_num_devices();  // whose default is num_groups
  if (kept == groups && router.hierarchy() == ONE_LEVEL && !names_devices)
    findings.add(
        "model.moe.router.group_top_k ({}) must be below num_groups ({}), else a token may choose "
        "from all groups as if there were none; lower it, or leave num_groups out",
        kept, groups);
  if (experts % groups != 0) {
    findings.add(
        "model.moe.router.num_groups ({}) must divide model.moe.num_experts ({}); choose a divisor",
        groups, experts);
    return;
  }
  const int size = experts / groups;
  check_kept_groups(moe, kept, size, findings);
  if (router.group_score_experts() > size)
    findings.add(
        "model.moe.router.group_score_experts ({}) must be at most the {} experts of a group; "
        "lower it",
        router.group_score_experts(), size);
}

void check_hierarchy(const Moe& moe, Findings& findings) {
  const Router& router = moe.router();
  if (router.hierarchy() <= ONE_LEVEL) return;
  const std::string hierarchy = "model.moe.router.hierarchy (" + Hierarchy_Name(router.hierarchy());
  const int groups = router.num_groups(), kept = router.group_top_k(), experts = moe.num_experts();
  if (groups < 2)
    findings.add(
        "{}) must be used with model.moe.router.num_groups of at least 2, got {}; set num_groups "
        "and group_top_k",
        hierarchy, groups);
  if (kept > 0 && moe.top_k() % kept != 0)
    findings.add(
        "{}) needs a model.moe.top_k ({}) that group_top_k ({}) divides: each chosen group gives "
        "equally many experts; change one of them",
        hierarchy, moe.top_k(), kept);
  else if (kept > 0 && groups > 0 && moe.top_k() / kept > experts / groups)
    findings.add("{}) asks {} experts of each chosen group, which has {}; lower model.moe.top_k",
                 hierarchy, moe.top_k() / kept, experts / groups);
  const auto only = [&](bool holds, const char* field, const char* value) {
    if (!holds)
      findings.add("{}) must be used with model.moe.{} {}; leave {} out", hierarchy, field, value,
                   field);
  };
  only(router.score() == SOFTMAX, "router.score", "SOFTMAX");
  only(!router.selection_bias(), "router.selection_bias", "false");
  only(router.second_choice() <= ALWAYS, "router.second_choice", "ALWAYS");
  only(moe.capacity().policy() != NEXT_FREE, "capacity.policy", "other than NEXT_FREE");
  only(moe.balance_loss().load() != UNBIASED_CHOICES, "balance_loss.load",
       "other than UNBIASED_CHOICES");
  only(moe.z_loss_coefficient() == 0, "z_loss_coefficient", "0");
  only(!moe.balance_loss().second_place(), "balance_loss.second_place", "false");
  only(moe.balance_loss().device_coefficient() == 0, "balance_loss.device_coefficient", "0");
  only(moe.balance_loss().communication_coefficient() == 0,
       "balance_loss.communication_coefficient", "0");
  only(moe.layer_aggregation() != POOLED_LAYERS, "layer_aggregation", "other than POOLED_LAYERS");
  if (router.hierarchy() == TWO_LEVEL) return;
  const DropPolicy policy = moe.capacity().policy();
  only(policy == NO_DROP || policy == BY_POSITION, "capacity.policy", "BY_POSITION or NO_DROP");
  only(moe.capacity().fixed_slots() == 0, "capacity.fixed_slots", "0");
}

// What a rule for the number of groups cannot know: whole sequences.
void check_group_rule(const Moe& moe, Findings& findings) {
  const Capacity& capacity = moe.capacity();
  if (capacity.max_group_tokens() <= 0) return;
  const auto only = [&](bool holds, const char* field, const char* value) {
    if (!holds)
      findings.add(
          "model.moe.capacity.max_group_tokens ({}) must be used with model.moe.{} {}, as such "
          "groups need not be whole sequences; use capacity.group_sequences",
          capacity.max_group_tokens(), field, value);
  };
  only(capacity.group_sequences() == 1, "capacity.group_sequences", "1");
  only(capacity.policy() != DEVICE_BUDGET, "capacity.policy", "other than DEVICE_BUDGET");
  only(moe.balance_loss().statistics() != PER_SEQUENCE, "balance_loss.statistics",
       "other than PER_SEQUENCE");
}

}  // namespace

void check_groups(const Moe& moe, Findings& findings) {
  check_group_sizes(moe, findings);
  check_hierarchy(moe, findings);
  check_group_rule(moe, findings);
}

}  // namespace switchyard::config
