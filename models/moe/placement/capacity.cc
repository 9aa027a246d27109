#include "models/moe/placement/capacity.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace switchyard::models {
namespace {

double rounded(double slots, config::Rounding rounding) {
  if (rounding == config::ROUND_UP) return std::ceil(slots);
  return rounding == config::ROUND_NEAREST ? std::nearbyint(slots)  // half to even
                                           : std::floor(slots);
}

// The slots of each of `experts` that share `rows`, of which each asks `choices`.
struct Share {
  double factor;
  int64_t rows, choices, experts;
};
int64_t slots_of(const Share& share, const config::Capacity& capacity) {
  const int64_t asking = share.rows * (capacity.counts_k() ? share.choices : 1);
  const double wanted =
      share.factor * static_cast<double>(asking) / static_cast<double>(share.experts);
  const double slots =
      rounded(std::min(wanted, static_cast<double>(share.rows)), capacity.rounding());
  const int64_t unit = std::max(1, capacity.multiple_of());
  const auto least = std::max<int64_t>(static_cast<int64_t>(slots), capacity.minimum());
  return (least + unit - 1) / unit * unit;
}

double factor_of(const config::Capacity& capacity, bool training) {
  return training ? capacity.train_factor() : capacity.eval_factor();
}

}  // namespace

int64_t capacity_of(const config::Moe& moe, bool training, int64_t group_tokens) {
  const config::Capacity& capacity = moe.capacity();
  if (capacity.fixed_slots() > 0) return capacity.fixed_slots();
  return slots_of({factor_of(capacity, training), group_tokens, moe.top_k(), moe.num_experts()},
                  capacity);
}

int64_t capacity_of_group(const config::Moe& moe, bool training, int64_t group_tokens) {
  const config::Router& router = moe.router();
  return slots_of({factor_of(moe.capacity(), training), group_tokens, router.group_top_k(),
                   router.num_groups()},
                  moe.capacity());
}

int64_t capacity_within_group(const config::Moe& moe, int64_t rows) {
  const config::Router& router = moe.router();
  return slots_of({moe.capacity().second_level_factor(), rows, moe.top_k() / router.group_top_k(),
                   moe.num_experts() / router.num_groups()},
                  moe.capacity());
}

int64_t device_budget(const config::Moe& moe, int64_t group_tokens) {
  const double even =
      static_cast<double>(group_tokens * moe.top_k()) / static_cast<double>(moe.num_devices());
  return static_cast<int64_t>(std::floor(moe.capacity().train_factor() * even));
}

config::Moe without_limits(config::Moe moe) {
  config::Capacity& capacity = *moe.mutable_capacity();
  if (moe.router().selection() == config::EXPERT_CHOICE) {
    capacity.set_minimum(std::max(1, capacity.minimum()));
  } else if (capacity.policy() == config::NEXT_FREE) {
    capacity.set_fixed_slots(std::numeric_limits<int32_t>::max());
  } else {
    capacity.set_policy(config::NO_DROP);
  }
  return moe;
}

config::DropPolicy policy_of(const config::Moe& moe, bool training) {
  const config::DropPolicy policy = moe.capacity().policy();
  if (training) return policy;
  if (policy == config::DEVICE_BUDGET || moe.router().selection() == config::STRICTLY_BALANCED) {
    return config::NO_DROP;
  }
  return policy == config::AT_RANDOM_ORDER ? config::BY_POSITION : policy;
}

}  // namespace switchyard::models
