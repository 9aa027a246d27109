#include "models/moe/placement/assignment.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

#include "core/base/errors.h"
#include "core/tensor/aten.h"
#include "models/pass/on_host.h"

namespace switchyard::models {
namespace {

// What the policies look at, for one routing group at a time.
struct Asking {
  const AssignOptions& options;
  const int64_t* expert;  // [T*K]
  int64_t choices;
  const bool* admitted;       // [T*K]; null: all are
  const bool* exempt;         // [T]; null: none is
  std::vector<double> score;  // [T*K], or [T] of the first choices; empty where none decides
  int64_t first = 0;          // the group's first token

  int64_t end() const { return first + options.group_tokens; }
  int64_t capacity() const {
    return options.group_capacity.empty() ? options.capacity
                                          : options.group_capacity[first / options.group_tokens];
  }
  bool asks(int64_t slot) const { return !admitted || admitted[slot]; }
  bool is_exempt(int64_t slot) const { return exempt && exempt[slot / choices]; }
};

// The order in which a group's tokens ask for places.
std::vector<int64_t> token_order(const Asking& asking) {
  std::vector<int64_t> order(asking.options.group_tokens);
  std::iota(order.begin(), order.end(), asking.first);
  if (asking.options.policy == config::BATCH_PRIORITIZED) {
    // Stable, for the earlier of equal tokens; and unlike sort it bears a score that is NaN.
    std::ranges::stable_sort(order, std::greater<>(), [&](int64_t t) { return asking.score[t]; });
  }
  return order;
}

// First come, first served: all first choices, then all second ones.
void place_in_order(const Asking& asking, int64_t* position) {
  const bool bounded = asking.options.policy != config::NO_DROP;
  const bool one_place = asking.options.policy == config::NEXT_FREE;
  const int64_t capacity = asking.capacity();
  const std::vector<int64_t> order = token_order(asking);
  const size_t tokens = order.size(), choices = asking.choices;
  // [K*T] in the order of asking, so that memory is read as places are taken; -1: asks for none.
  std::vector<int64_t> wanted(choices * tokens), got(choices * tokens, -1);
  for (size_t i = 0; i < tokens; ++i) {
    for (size_t j = 0; j < choices; ++j) {
      const auto n = static_cast<int64_t>(order[i] * choices + j);
      wanted[j * tokens + i] = asking.asks(n) ? asking.expert[n] : -1;
    }
  }
  std::vector<int64_t> used(asking.options.num_experts);
  std::vector<uint8_t> placed(one_place ? tokens : 0);
  for (size_t slot = 0; slot < wanted.size(); ++slot) {
    if (wanted[slot] < 0 || (one_place && placed[slot % tokens])) continue;
    int64_t& taken = used[wanted[slot]];
    if (bounded && taken >= capacity) continue;
    got[slot] = taken++;
    if (one_place) placed[slot % tokens] = 1;
  }
  for (size_t i = 0; i < tokens; ++i) {
    for (size_t j = 0; j < choices; ++j) position[order[i] * choices + j] = got[j * tokens + i];
  }
}

// A group's asking slots by owner (expert or device), each list choice-major, then in token order.
std::vector<std::vector<int64_t>> slots_by_owner(const Asking& asking, int64_t owners) {
  const int64_t each = asking.options.num_experts / owners;
  std::vector<std::vector<int64_t>> slots(owners);
  for (int64_t j = 0; j < asking.choices; ++j) {
    for (int64_t t = asking.first; t < asking.end(); ++t) {
      const int64_t n = t * asking.choices + j;
      if (asking.asks(n)) slots[asking.expert[n] / each].push_back(n);
    }
  }
  return slots;
}

// Each expert, or device, keeps its slots of the greatest scores up to its capacity, and beyond
// that the exempt ones, which have used it first. (DeepSeek-V2's paper does not say whether they
// count; here they do.)
void place_by_rank(const Asking& asking, int64_t* position) {
  const AssignOptions& options = asking.options;
  const bool by_device = options.policy == config::DEVICE_BUDGET;
  const auto before = [&](int64_t a, int64_t b) {
    if (asking.is_exempt(a) != asking.is_exempt(b)) return asking.is_exempt(a);
    return asking.score[a] > asking.score[b];
  };
  std::vector<int64_t> used(options.num_experts);
  for (auto& slots :
       slots_by_owner(asking, by_device ? options.num_devices : options.num_experts)) {
    std::stable_sort(slots.begin(), slots.end(), before);
    for (size_t i = 0; i < slots.size(); ++i) {
      const bool fits = static_cast<int64_t>(i) < asking.capacity();
      if (fits || asking.is_exempt(slots[i])) position[slots[i]] = used[asking.expert[slots[i]]]++;
    }
  }
}

void place(const Asking& asking, int64_t* position) {
  const config::DropPolicy policy = asking.options.policy;
  const bool by_rank = policy == config::BY_PROBABILITY || policy == config::AT_RANDOM_ORDER ||
                       policy == config::DEVICE_BUDGET;
  return by_rank ? place_by_rank(asking, position) : place_in_order(asking, position);
}

// Counts what asked and got nothing: slots, or tokens where a token wants one place, wherever it
// is.
at::Tensor count_dropped(const at::Tensor& admitted_TK, const at::Tensor& position_TK,
                         bool by_token) {
  const at::Tensor kept = position_TK.ge(0);
  const at::Tensor asked = admitted_TK.defined() ? admitted_TK : at::ones_like(kept);
  return by_token ? asked.any(1).logical_and(kept.any(1).logical_not()).sum()
                  : asked.logical_and(kept.logical_not()).sum();
}

// 16 significant bits. Equal tokens in equal contexts have equal scores but for the last bits,
// which depend on how a matrix product was cut, hence on the number of ranks: those must not
// decide.
double coarse(double score) {
  constexpr double kSteps = 1 << 16;
  int exponent = 0;
  const double mantissa = std::frexp(score, &exponent);
  return std::ldexp(std::nearbyint(mantissa * kSteps) / kSteps, exponent);
}

// What the policy ranks by, the greatest first; empty where it asks by position.
std::vector<double> ranking_scores(const at::Tensor& score_TK, const AssignOptions& options) {
  const auto values = [](const at::Tensor& scores, double (*value)(double)) {
    const at::Tensor wide = on_host(scores.detach().to(at::kDouble));
    const double* first = wide.const_data_ptr<double>();
    std::vector<double> ranked(wide.numel());
    std::transform(first, first + wide.numel(), ranked.begin(), value);
    return ranked;
  };
  switch (options.policy) {
    case config::AT_RANDOM_ORDER:
      return values(options.lot_TK, [](double lot) { return -lot; });
    case config::BATCH_PRIORITIZED:
      return values(score_TK.select(1, 0), coarse);
    case config::BY_PROBABILITY:
    case config::DEVICE_BUDGET:
      return values(score_TK, coarse);
    default:
      return {};
  }
}

// The kept slots by expert, then by slot: a counting sort.
parallel::SlotOrder order_by_expert(const at::Tensor& expert_TK, const at::Tensor& position_TK,
                                    int64_t num_experts) {
  const int64_t* expert = expert_TK.const_data_ptr<int64_t>();
  const int64_t* position = position_TK.const_data_ptr<int64_t>();
  at::Tensor count_E = at::zeros({num_experts}, at::kLong);
  auto* count = count_E.mutable_data_ptr<int64_t>();
  for (int64_t n = 0; n < expert_TK.numel(); ++n) {
    if (position[n] >= 0) ++count[expert[n]];
  }
  std::vector<int64_t> next(num_experts, 0);
  std::partial_sum(count, count + num_experts - 1, next.begin() + 1);
  at::Tensor slot_N = at::empty({next.back() + count[num_experts - 1]}, at::kLong);
  auto* slot = slot_N.mutable_data_ptr<int64_t>();
  for (int64_t n = 0; n < expert_TK.numel(); ++n) {
    if (position[n] >= 0) slot[next[expert[n]]++] = n;
  }
  return {slot_N, count_E, expert_TK.size(0), expert_TK.size(1)};
}

}  // namespace

at::Tensor count_slots(const at::Tensor& expert_TK, const at::Tensor& counts_TK,
                       int64_t num_experts, int64_t group_tokens) {
  const int64_t tokens = expert_TK.size(0), groups = tokens / group_tokens;
  const at::Tensor group_T1 = at::arange(tokens, at::kLong).floor_divide(group_tokens).unsqueeze(1);
  const at::Tensor place_N = (group_T1 * num_experts + expert_TK).flatten();
  const at::Tensor one_N = counts_TK.defined()
                               ? counts_TK.expand_as(expert_TK).flatten().to(at::kLong)
                               : at::ones_like(place_N);
  return at::zeros({groups * num_experts}, at::kLong)
      .scatter_add_(0, place_N, one_N)
      .view({groups, num_experts});
}

Assignment assign(const at::Tensor& expert_TK, const at::Tensor& score_TK,
                  const at::Tensor& admitted_TK, const AssignOptions& options) {
  const int64_t tokens = expert_TK.size(0), group = options.group_tokens;
  SY_CHECK(group > 0 && tokens % group == 0, "{} tokens in groups of {}", tokens, group);
  const auto flags = [](const at::Tensor& flag) {
    return flag.defined() ? flag.const_data_ptr<bool>() : nullptr;
  };
  const at::Tensor expert = on_host(expert_TK), admitted = on_host(admitted_TK),
                   exempt = on_host(options.exempt_T1);
  Asking asking{options,       expert.const_data_ptr<int64_t>(), expert.size(1), flags(admitted),
                flags(exempt), ranking_scores(score_TK, options)};
  const at::Tensor position = at::full(expert.sizes(), -1, at::kLong);
  for (; asking.first < tokens; asking.first += group) {
    place(asking, position.mutable_data_ptr<int64_t>());
  }
  const bool by_token = options.policy == config::NEXT_FREE || options.experts_choose;
  return {position.to(expert_TK.device()), count_dropped(admitted, position, by_token),
          order_by_expert(expert, position, options.num_experts)};
}

}  // namespace switchyard::models
