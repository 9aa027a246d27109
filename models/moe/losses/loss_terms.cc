#include "models/moe/losses/loss_terms.h"

#include <algorithm>

#include <fmt/format.h>

#include "core/config/layers.h"

namespace switchyard::models {
namespace {

std::string fraction_words(const config::Moe& moe) {
  switch (moe.balance_loss().load()) {
    case config::FIRST_CHOICE:
      return "share of the tokens whose first choice is expert i";
    case config::TOKENS_CHOOSING:
      return fmt::format("share of the tokens that have expert i among their {}", moe.top_k());
    case config::UNBIASED_CHOICES:
      return fmt::format(
          "share of the T*{} assignments that would ask for expert i without selection bias and "
          "groups",
          moe.top_k());
    default:
      return fmt::format("share of the T*{} assignments that ask for expert i", moe.top_k());
  }
}

std::string scope_words(const config::Moe& moe) {
  const int most = moe.capacity().max_group_tokens();
  switch (moe.balance_loss().statistics()) {
    case config::GLOBAL_BATCH:
      return "f over the T tokens on all ranks of the step's micro-batches up to this one, P over "
             "this one's; mean over the step's micro-batches";
    case config::PER_RANK:
      return "f and P over the T tokens of a rank's micro-batch, then the mean over ranks; mean "
             "over the step's micro-batches; another loss for each number of ranks";
    case config::PER_SEQUENCE:
      return "f and P over the T tokens of each sequence, then the mean over sequences";
    default:
      return fmt::format(
          "f and P over the T tokens of each routing group of {}, then the mean over groups; mean "
          "over the step's micro-batches",
          most > 0 ? fmt::format("about {} token(s)", most)
                   : fmt::format("{} sequence(s)", moe.capacity().group_sequences()));
  }
}

struct Layers {
  const config::Model& model;

  int count() const { return config::num_routers(model); }
  bool is_pooled() const { return model.moe().layer_aggregation() == config::POOLED_LAYERS; }
  // "sum over 4 router(s)"
  std::string words() const {
    const bool sum = model.moe().layer_aggregation() <= config::SUM_OVER_LAYERS;
    return fmt::format("{} over {} router(s)", sum ? "sum" : "mean", count());
  }
  LossTerm term(const char* name, double coefficient, const std::string& what,
                std::vector<std::string> detail) const {
    return {name, fmt::format("{} * {} of {}", coefficient, words(), what), std::move(detail)};
  }
};

LossTerm two_level_term(const Layers& layers) {
  const config::Moe& moe = layers.model.moe();
  const config::Router& router = moe.router();
  const int groups = router.num_groups(), size = moe.num_experts() / groups;
  const bool each = moe.balance_loss().load() == config::TOKENS_CHOOSING;
  const int even = each ? router.group_top_k() + moe.top_k() / router.group_top_k() : 2;
  const bool by_importance = router.hierarchy() == config::TWO_LEVEL_BY_IMPORTANCE;
  return layers.term(
      "balance", moe.balance_loss().coefficient(),
      fmt::format("{} * sum_a f_a P_a + sum_a s_a * {} * sum_i f_ai P_ai", groups, size),
      {fmt::format("f_a = {}, with groups for experts, before drops, without gradient",
                   fraction_words(moe)),
       fmt::format("P_a = mean probability of group a at the gate over the {} groups", groups),
       fmt::format("s_a = share of all tokens that enter in group a: each in its best group{}",
                   by_importance ? ", if that has a row for it and over half of its weight" : ""),
       "f_ai, P_ai = the same of the gate within group a, over the tokens that enter in it",
       scope_words(moe), fmt::format("{} per layer at perfect balance if all tokens enter", even)});
}

LossTerm balance_term(const Layers& layers) {
  const config::Moe& moe = layers.model.moe();
  if (moe.router().hierarchy() > config::ONE_LEVEL) return two_level_term(layers);
  const config::BalanceLoss& balance = moe.balance_loss();
  const int even = balance.load() == config::TOKENS_CHOOSING ? moe.top_k() : 1;
  std::vector<std::string> detail = {
      fmt::format("f_i = {}, before drops, without gradient", fraction_words(moe)),
      "P_i = mean router probability of expert i", scope_words(moe),
      layers.is_pooled()
          ? fmt::format("{} at perfect balance, before the coefficient", even)
          : fmt::format("{} per layer at perfect balance, before the coefficient", even)};
  std::string formula = fmt::format("{} * sum_i f_i P_i", moe.num_experts());
  if (balance.second_place()) {
    formula = fmt::format("{} * sum_i (f_i P_i + f2_i P2_i / 2)", moe.num_experts());
    detail.push_back(
        "f2_i, P2_i = the same with second choices, and with the probabilities without each "
        "token's first choice, renormalised; 0.5 more at perfect balance");
  }
  if (config::decoder_chooses_by_token(layers.model)) {
    detail.push_back("0 for the encoder's routers, whose experts choose");
  }
  if (layers.is_pooled()) {
    return {"balance",
            fmt::format("{} * {}, f and P over the tokens of {} router(s) together",
                        balance.coefficient(), formula, layers.count()),
            detail};
  }
  return layers.term("balance", balance.coefficient(), formula, detail);
}

LossTerm cv_term(const Layers& layers, const char* name, double coefficient, char symbol,
                 const char* meaning) {
  return layers.term(
      name, coefficient, fmt::format("var_i({0}_i) / mean_i({0}_i)^2", symbol),
      {fmt::format("{}_i = {}", symbol, meaning),
       "sums over the tokens of the micro-batch on all ranks; variance over experts; mean over the "
       "step's micro-batches",
       "0 at perfect balance"});
}

void add_device_terms(const Layers& layers, std::vector<LossTerm>& terms) {
  const config::Moe& moe = layers.model.moe();
  const config::BalanceLoss& balance = moe.balance_loss();
  const std::string group = fmt::format("P_g = sum of P_i over the {} experts of device group g",
                                        moe.num_experts() / std::max(1, moe.num_devices()));
  if (balance.device_coefficient() > 0)
    terms.push_back(layers.term(
        "device", balance.device_coefficient(), "sum_g f_g P_g",
        {fmt::format("f_g = mean of {} f_i over device group g, f_i the share of the T*{} "
                     "assignments that ask for expert i",
                     moe.num_experts(), moe.top_k()),
         group, scope_words(moe), "1 per layer at perfect balance, before the coefficient"}));
  if (balance.communication_coefficient() > 0)
    terms.push_back(layers.term(
        "communication", balance.communication_coefficient(), "sum_g f_g P_g",
        {fmt::format("f_g = {} / {} * share of the tokens that are sent to device group g",
                     moe.num_devices(), moe.router().group_top_k()),
         group, scope_words(moe),
         "1 per layer if every token evenly uses all the device groups it may"}));
}

}  // namespace

void add_router_losses(const config::RunConfig& config, std::vector<LossTerm>& terms) {
  if (!config.model().has_moe()) return;
  const Layers layers{config.model()};
  const config::Moe& moe = config.model().moe();
  if (moe.balance_loss().coefficient() > 0) terms.push_back(balance_term(layers));
  add_device_terms(layers, terms);
  if (moe.z_loss_coefficient() > 0)
    terms.push_back(
        layers.term("z", moe.z_loss_coefficient(),
                    "the mean over all tokens of the step of logsumexp(router logits)^2", {}));
  if (moe.importance_loss_coefficient() > 0)
    terms.push_back(cv_term(layers, "importance", moe.importance_loss_coefficient(), 'I',
                            "sum of the weights of the tokens that chose expert i"));
  if (moe.load_loss_coefficient() > 0)
    terms.push_back(cv_term(
        layers, "load", moe.load_loss_coefficient(), 'L',
        moe.router().hierarchy() > config::ONE_LEVEL
            ? "expected tokens of the group of expert i * expected share of them that i takes, "
              "each when the noise on one logit is drawn again"
            : "sum of the probability that a token chooses expert i when the noise on i is drawn "
              "again"));
  if (moe.router().selection() == config::STRICTLY_BALANCED)
    terms.push_back(layers.term(
        "threshold", 1,
        "the mean over all tokens of the step of sum_i (above_i - took_i) (p_i - threshold_i)",
        {"above_i = 1 where p_i > threshold_i, took_i = 1 where expert i took the token, else 0",
         "gradient to the thresholds alone; 0 when they make the same choices"}));
}

}  // namespace switchyard::models
