// Rules about the sizes of a router: of its choices, and of groups of experts.

#include "core/config/validate_rules.h"

namespace switchyard::config {
namespace {

// How many experts a token may be given.
void check_choices(const Moe& moe, Findings& findings) {
  if (moe.has_num_experts() && moe.num_experts() > 0 && moe.top_k() > moe.num_experts())
    findings.add(
        "model.moe.top_k ({}) must be at most model.moe.num_experts ({}); lower top_k or raise "
        "num_experts",
        moe.top_k(), moe.num_experts());
  const Capacity& capacity = moe.capacity();
  if (capacity.policy() == NEXT_FREE && moe.num_experts() > 0 &&
      capacity.rounds() > moe.num_experts())
    findings.add(
        "model.moe.capacity.rounds ({}) must be at most model.moe.num_experts ({}); lower it",
        capacity.rounds(), moe.num_experts());
  if (moe.load_loss_coefficient() > 0 && moe.top_k() == moe.num_experts())
    findings.add(
        "model.moe.load_loss_coefficient ({}) must be 0 with top_k = num_experts ({}): every "
        "expert has every token; leave it out",
        moe.load_loss_coefficient(), moe.top_k());
}

// The groups of experts that DeepSeek calls devices.
void check_devices(const Moe& moe, Findings& findings) {
  const double communication = moe.balance_loss().communication_coefficient();
  const int devices = moe.num_devices(), groups = moe.router().num_groups();
  if (devices > 1 && moe.num_experts() > 0 && moe.num_experts() % devices != 0)
    findings.add(
        "model.moe.num_devices ({}) must divide model.moe.num_experts ({}); choose a divisor",
        devices, moe.num_experts());
  if (communication > 0 && (groups < 2 || groups != devices))
    findings.add(
        "model.moe.balance_loss.communication_coefficient ({}) must be used with router.num_groups "
        "({}) equal to num_devices ({}): it compares with the group_top_k devices that a token may "
        "reach; set num_groups or leave it out",
        communication, groups, devices);
}

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

// What each group that a token keeps gives it.
void check_hierarchy(const Moe& moe, Findings& findings) {
  const Router& router = moe.router();
  const int groups = router.num_groups(), kept = router.group_top_k(), experts = moe.num_experts();
  if (router.hierarchy() <= ONE_LEVEL || kept < 1) return;
  const std::string& hierarchy = Hierarchy_Name(router.hierarchy());
  if (moe.top_k() % kept != 0)
    findings.add(
        "model.moe.router.hierarchy ({}) needs a model.moe.top_k ({}) that group_top_k ({}) "
        "divides: each chosen group gives equally many experts; change one of them",
        hierarchy, moe.top_k(), kept);
  else if (groups > 0 && moe.top_k() / kept > experts / groups)
    findings.add(
        "model.moe.router.hierarchy ({}) asks {} experts of each chosen group, which has {}; lower "
        "model.moe.top_k",
        hierarchy, moe.top_k() / kept, experts / groups);
}

}  // namespace

void check_routing(const Moe& moe, Findings& findings) {
  check_choices(moe, findings);
  check_devices(moe, findings);
  check_group_sizes(moe, findings);
  check_hierarchy(moe, findings);
}

}  // namespace switchyard::config
