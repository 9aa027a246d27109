// Rules about selections that give every expert its share by construction.

#include "core/config/validate_rules.h"

namespace switchyard::config {
namespace {

void check_expert_choice(const Moe& moe, Findings& findings) {
  const bool expert_choice = moe.router().selection() == EXPERT_CHOICE;
  if (moe.router().score() == SOFTMAX_OVER_TOKENS && !expert_choice)
    findings.add(
        "model.moe.router.score (SOFTMAX_OVER_TOKENS) must be used with selection EXPERT_CHOICE, "
        "got {}; use SOFTMAX",
        Selection_Name(moe.router().selection()));
  if (!expert_choice) return;
  if (moe.capacity().policy() != BY_PROBABILITY)
    findings.add(
        "model.moe.capacity.policy ({}) must be BY_PROBABILITY with selection EXPERT_CHOICE: each "
        "expert takes its best tokens, as many as its capacity; leave policy out",
        DropPolicy_Name(moe.capacity().policy()));
  if (moe.router().weighting() != RAW)
    findings.add(
        "model.moe.router.weighting ({}) must be RAW with selection EXPERT_CHOICE: a token may be "
        "chosen by any number of experts; leave it out",
        Weighting_Name(moe.router().weighting()));
}

void check_strictly_balanced(const Moe& moe, Findings& findings) {
  const bool strict = moe.router().selection() == STRICTLY_BALANCED;
  if (strict && moe.capacity().policy() != BY_PROBABILITY)
    findings.add(
        "model.moe.capacity.policy ({}) must be BY_PROBABILITY with selection STRICTLY_BALANCED: "
        "each expert takes its best tokens; leave policy out",
        DropPolicy_Name(moe.capacity().policy()));
  if (strict && moe.router().weighting() != RENORMALIZE_KEPT)
    findings.add(
        "model.moe.router.weighting ({}) must be RENORMALIZE_KEPT with selection "
        "STRICTLY_BALANCED: which experts share a token is known only after the choice; leave it "
        "out",
        Weighting_Name(moe.router().weighting()));
  if (strict && moe.router().score() != SOFTMAX)
    findings.add(
        "model.moe.router.score ({}) must be SOFTMAX with selection STRICTLY_BALANCED; leave it "
        "out",
        Score_Name(moe.router().score()));
  if (strict && moe.router().second_choice() > ALWAYS)
    findings.add(
        "model.moe.router.second_choice ({}) must be ALWAYS with selection STRICTLY_BALANCED; "
        "leave it out",
        SecondChoice_Name(moe.router().second_choice()));
  if (strict && moe.balance_loss().coefficient() > 0)
    findings.add(
        "model.moe.balance_loss.coefficient ({}) must be 0 with selection STRICTLY_BALANCED: every "
        "expert takes the same number of tokens; leave it out",
        moe.balance_loss().coefficient());
}

void check_assignment(const Moe& moe, Findings& findings) {
  if (moe.router().selection() == BALANCED_ASSIGNMENT && moe.top_k() != 1)
    findings.add(
        "model.moe.top_k ({}) must be 1 with router.selection BALANCED_ASSIGNMENT, which gives "
        "each token one expert; set top_k: 1",
        moe.top_k());
}

}  // namespace

void check_balanced_selection(const Moe& moe, Findings& findings) {
  check_expert_choice(moe, findings);
  check_strictly_balanced(moe, findings);
  check_assignment(moe, findings);
}

}  // namespace switchyard::config
