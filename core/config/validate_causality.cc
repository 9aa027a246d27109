// What is said of routing by which a token's output depends on later tokens, in models that write
// from left to right. Such a dependence in evaluation makes perplexities too good and generation
// another model, so that it must be asked for (compatibility_routing.cc); one in training alone, or
// by way of full experts alone, is common in published systems, so that it is only said.

#include "core/config/layers.h"
#include "core/config/validate.h"
#include "core/config/validate_rules.h"

namespace switchyard::config {
namespace {

// An encoder-decoder's decoder goes by position instead, and chooses by token.
bool ranks_later_tokens(const Model& model) {
  return model.architecture() != ENCODER_DECODER && ranks_tokens(model.moe());
}

bool experts_choose(const Model& model) {
  return model.architecture() != ENCODER_DECODER &&
         model.moe().router().selection() == EXPERT_CHOICE;
}

// Whether a later choice finds room only behind all tokens' earlier choices.
bool queues_behind_later_tokens(const Moe& moe) {
  const DropPolicy policy = moe.capacity().policy();
  if (policy == NEXT_FREE) return moe.capacity().rounds() > 1;
  const bool has_queue = policy == BY_POSITION || policy == AT_RANDOM_ORDER || ranks_tokens(moe);
  return has_queue && moe.top_k() > 1 && moe.router().second_choice() != NEVER;
}

}  // namespace

std::vector<std::string> warnings(const RunConfig& config) {
  Findings findings;
  const Model& model = config.model();
  const Moe& moe = model.moe();
  if (!model.has_moe()) return {};
  if (experts_choose(model) || ranks_later_tokens(model)) {
    findings.add(
        "model.moe.allow_future: later tokens decide which experts an earlier one gets, in "
        "evaluation too; losses are too good, and generation does not repeat them");
    return findings.lines;
  }
  const auto in_training = [&](const char* field, const std::string& value) {
    findings.add(
        "{} ({}): in training, later tokens decide too which experts an earlier one gets; in "
        "evaluation they do not",
        field, value);
  };
  const Selection selection = moe.router().selection();
  if (selection == SINKHORN || selection == STRICTLY_BALANCED || selection == BALANCED_ASSIGNMENT)
    in_training("model.moe.router.selection", Selection_Name(selection));
  const DropPolicy policy = moe.capacity().policy();
  if (policy == DEVICE_BUDGET || policy == AT_RANDOM_ORDER)
    in_training("model.moe.capacity.policy", DropPolicy_Name(policy));
  if (queues_behind_later_tokens(moe))
    findings.add(
        "model.moe.capacity.policy ({}) with more than one choice: a token's later choices wait "
        "behind the first choices of later tokens, so a full expert lets these change its output, "
        "in evaluation too; raise eval_factor until nothing is dropped to compare losses exactly",
        DropPolicy_Name(policy));
  return findings.lines;
}

}  // namespace switchyard::config
