#pragma once
// The auxiliary losses of a router. Each has one line in the table of kinds, from which statistics,
// coefficients, metrics and reports follow; its value is computed in
// models/moe/losses/losses.cc and put into words in models/inspect/loss_terms.cc.

#include <array>
#include <cstddef>
#include <cstdint>

#include "core/config/run_config.pb.h"

namespace switchyard::models {

enum class RouterLoss : uint8_t {
  kBalance,
  kZ,
  kDevice,
  kCommunication,
  kImportance,
  kLoad,
  kThreshold,
};
inline constexpr size_t kNumRouterLosses = 7;

struct RouterLossKind {
  RouterLoss loss;
  const char* name;                               // in formulas and in the report of a routing
  const char* metric;                             // in the metrics, behind "moe/"
  bool is_always_reported;                        // even where its coefficient is 0
  double (*coefficient)(const config::Moe& moe);  // as the config has it; 0: off
};

// In the order of RouterLoss.
const std::array<RouterLossKind, kNumRouterLosses>& router_loss_kinds();
inline const RouterLossKind& kind_of(RouterLoss loss) {
  return router_loss_kinds()[static_cast<size_t>(loss)];
}

// A number for each of a router's losses.
class RouterLosses {
 public:
  double& operator[](RouterLoss loss) { return values_[static_cast<size_t>(loss)]; }
  double operator[](RouterLoss loss) const { return values_[static_cast<size_t>(loss)]; }
  auto begin() { return values_.begin(); }
  auto end() { return values_.end(); }

 private:
  std::array<double, kNumRouterLosses> values_ = {};
};

// The coefficients as the config has them.
RouterLosses coefficients_of(const config::Moe& moe);

}  // namespace switchyard::models
