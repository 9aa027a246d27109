#include "models/inspect/loss_terms.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include <fmt/format.h>

#include "core/config/layers.h"
#include "models/pass/router_loss.h"

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
  double coefficient(RouterLoss loss) const { return kind_of(loss).coefficient(model.moe()); }
  LossTerm term(RouterLoss loss, const std::string& what, std::vector<std::string> detail) const {
    return {kind_of(loss).name, fmt::format("{} * {} of {}", coefficient(loss), words(), what),
            std::move(detail)};
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
      RouterLoss::kBalance,
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
  return layers.term(RouterLoss::kBalance, formula, detail);
}

LossTerm cv_term(const Layers& layers, RouterLoss loss, char symbol, const char* meaning) {
  return layers.term(
      loss, fmt::format("var_i({0}_i) / mean_i({0}_i)^2", symbol),
      {fmt::format("{}_i = {}", symbol, meaning),
       "sums over the tokens of the micro-batch on all ranks; variance over experts; mean over the "
       "step's micro-batches",
       "0 at perfect balance"});
}

std::string device_words(const config::Moe& moe) {
  return fmt::format("P_g = sum of P_i over the {} experts of device group g",
                     moe.num_experts() / std::max(1, moe.num_devices()));
}

LossTerm device_term(const Layers& layers) {
  const config::Moe& moe = layers.model.moe();
  return layers.term(
      RouterLoss::kDevice, "sum_g f_g P_g",
      {fmt::format("f_g = mean of {} f_i over device group g, f_i the share of the T*{} "
                   "assignments that ask for expert i",
                   moe.num_experts(), moe.top_k()),
       device_words(moe), scope_words(moe),
       "1 per layer at perfect balance, before the coefficient"});
}

LossTerm communication_term(const Layers& layers) {
  const config::Moe& moe = layers.model.moe();
  return layers.term(
      RouterLoss::kCommunication, "sum_g f_g P_g",
      {fmt::format("f_g = {} / {} * share of the tokens that are sent to device group g",
                   moe.num_devices(), moe.router().group_top_k()),
       device_words(moe), scope_words(moe),
       "1 per layer if every token evenly uses all the device groups it may"});
}

LossTerm z_term(const Layers& layers) {
  return layers.term(RouterLoss::kZ,
                     "the mean over all tokens of the step of logsumexp(router logits)^2", {});
}

LossTerm importance_term(const Layers& layers) {
  return cv_term(layers, RouterLoss::kImportance, 'I',
                 "sum of the weights of the tokens that chose expert i");
}

LossTerm load_term(const Layers& layers) {
  return cv_term(
      layers, RouterLoss::kLoad, 'L',
      layers.model.moe().router().hierarchy() > config::ONE_LEVEL
          ? "expected tokens of the group of expert i * expected share of them that i takes, "
            "each when the noise on one logit is drawn again"
          : "sum of the probability that a token chooses expert i when the noise on i is drawn "
            "again");
}

LossTerm threshold_term(const Layers& layers) {
  return layers.term(
      RouterLoss::kThreshold,
      "the mean over all tokens of the step of sum_i (above_i - took_i) (p_i - threshold_i)",
      {"above_i = 1 where p_i > threshold_i, took_i = 1 where expert i took the token, else 0",
       "gradient to the thresholds alone; 0 when they make the same choices"});
}

// In the order in which they are shown.
constexpr std::pair<RouterLoss, LossTerm (*)(const Layers&)> kTerms[] = {
    {RouterLoss::kBalance, balance_term},
    {RouterLoss::kDevice, device_term},
    {RouterLoss::kCommunication, communication_term},
    {RouterLoss::kZ, z_term},
    {RouterLoss::kImportance, importance_term},
    {RouterLoss::kLoad, load_term},
    {RouterLoss::kThreshold, threshold_term}};
static_assert(std::size(kTerms) == kNumRouterLosses);

}  // namespace

void add_router_losses(const config::RunConfig& config, std::vector<LossTerm>& terms) {
  if (!config.model().has_moe()) return;
  const Layers layers{config.model()};
  for (const auto& [loss, term] : kTerms) {
    if (layers.coefficient(loss) > 0) terms.push_back(term(layers));
  }
}

}  // namespace switchyard::models
