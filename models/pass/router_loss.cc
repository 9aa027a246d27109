#include "models/pass/router_loss.h"

namespace switchyard::models {

const std::array<RouterLossKind, kNumRouterLosses>& router_loss_kinds() {
  using config::Moe;
  static constexpr std::array<RouterLossKind, kNumRouterLosses> kKinds = {{
      {RouterLoss::kBalance, "balance", "aux", true,
       [](const Moe& moe) { return moe.balance_loss().coefficient(); }},
      {RouterLoss::kZ, "z", "z", true, [](const Moe& moe) { return moe.z_loss_coefficient(); }},
      {RouterLoss::kDevice, "device", "device_loss", false,
       [](const Moe& moe) { return moe.balance_loss().device_coefficient(); }},
      {RouterLoss::kCommunication, "communication", "communication_loss", false,
       [](const Moe& moe) { return moe.balance_loss().communication_coefficient(); }},
      {RouterLoss::kImportance, "importance", "importance_loss", false,
       [](const Moe& moe) { return moe.importance_loss_coefficient(); }},
      {RouterLoss::kLoad, "load", "load_loss", false,
       [](const Moe& moe) { return moe.load_loss_coefficient(); }},
      {RouterLoss::kThreshold, "threshold", "threshold_loss", false,
       [](const Moe& moe) {
         return moe.router().selection() == config::STRICTLY_BALANCED ? 1.0 : 0.0;
       }},
  }};
  return kKinds;
}

RouterLosses coefficients_of(const config::Moe& moe) {
  RouterLosses coefficients;
  for (const RouterLossKind& kind : router_loss_kinds())
    coefficients[kind.loss] = kind.coefficient(moe);
  return coefficients;
}

}  // namespace switchyard::models
