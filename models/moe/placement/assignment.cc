#include "models/moe/placement/assignment.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "core/base/errors.h"
#include "core/tensor/aten.h"

namespace switchyard::models {
namespace {

// What the policies look at, for one routing group at a time.
struct Asking {
  const AssignOptions& options;
  const int64_t* expert;  // [T*K]
  int64_t choices;
  const bool* admitted;       // [T*K]; null: all are
  std::vector<double> score;  // [T*K], or [T] of the first choices; empty where none decides
  int64_t first = 0;          // the group's first token

  int64_t end() const { return first + options.group_tokens; }
  int64_t capacity() const {
    return options.group_capacity.empty() ? options.capacity
                                          : options.group_capacity[first / options.group_tokens];
  }
  bool asks(int64_t slot) const { return !admitted || admitted[slot]; }
};

// The order in which a group's tokens ask for places.
std::vector<int64_t> token_order(const Asking& asking) {
  std::vector<int64_t> order(asking.options.group_tokens);
  std::iota(order.begin(), order.end(), asking.first);
  if (asking.options.policy == config::BATCH_PRIORITIZED) {
    // Ascending pairs: the greatest first score, of equal ones the earlier token.
    std::vector<std::pair<double, int64_t>> ranking(order.size());
    std::transform(order.begin(), order.end(), ranking.begin(),
                   [&](int64_t t) { return std::pair(-asking.score[t], t); });
    std::stable_sort(ranking.begin(), ranking.end());  // unlike sort, it bears a score that is NaN
    std::transform(ranking.begin(), ranking.end(), order.begin(),
                   [](const auto& ranked) { return ranked.second; });
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

// Each expert serves its slots by rank: greatest score, or lowest lot, first.
void place_by_rank(const Asking& asking, int64_t* position) {
  const AssignOptions& options = asking.options;
  const bool by_lot = options.policy == config::AT_RANDOM_ORDER;
  const float* lot = by_lot ? options.lot_TK.const_data_ptr<float>() : nullptr;
  const auto before = [&](int64_t a, int64_t b) {
    return by_lot ? lot[a] < lot[b] : asking.score[a] > asking.score[b];
  };
  for (auto& slots : slots_by_owner(asking, options.num_experts)) {
    std::stable_sort(slots.begin(), slots.end(), before);
    const auto kept = std::min<size_t>(slots.size(), asking.capacity());
    for (size_t i = 0; i < kept; ++i) position[slots[i]] = static_cast<int64_t>(i);
  }
}

// Each device keeps its exempt slots, and of the others the greatest scores up to its budget,
// which the exempt ones have used first. (The paper does not say whether they count; here they do.)
void place_by_device(const Asking& asking, int64_t* position) {
  const AssignOptions& options = asking.options;
  const bool* exempt =
      options.exempt_T1.defined() ? options.exempt_T1.const_data_ptr<bool>() : nullptr;
  const auto is_exempt = [&](int64_t slot) { return exempt && exempt[slot / asking.choices]; };
  const auto before = [&](int64_t a, int64_t b) {
    if (is_exempt(a) != is_exempt(b)) return is_exempt(a);
    return asking.score[a] > asking.score[b];
  };
  std::vector<int64_t> used(options.num_experts);
  for (auto& slots : slots_by_owner(asking, options.num_devices)) {
    std::stable_sort(slots.begin(), slots.end(), before);
    for (size_t i = 0; i < slots.size(); ++i) {
      const bool fits = static_cast<int64_t>(i) < asking.capacity();
      if (fits || is_exempt(slots[i])) position[slots[i]] = used[asking.expert[slots[i]]]++;
    }
  }
}

void place(const Asking& asking, int64_t* position) {
  switch (asking.options.policy) {
    case config::BY_PROBABILITY:
    case config::AT_RANDOM_ORDER:
      return place_by_rank(asking, position);
    case config::DEVICE_BUDGET:
      return place_by_device(asking, position);
    default:
      return place_in_order(asking, position);
  }
}

// What asked and got nothing: slots, or tokens where a token wants one place, wherever it is.
int64_t count_dropped(const Asking& asking, const at::Tensor& position_TK) {
  const bool by_token = asking.options.policy == config::NEXT_FREE || asking.options.experts_choose;
  const int64_t unit = by_token ? asking.choices : 1;
  const int64_t* position = position_TK.const_data_ptr<int64_t>();
  int64_t dropped = 0;
  for (int64_t begin = 0; begin < position_TK.numel(); begin += unit) {
    bool asked = false, kept = false;
    for (int64_t n = begin; n < begin + unit; ++n) {
      asked |= asking.asks(n);
      kept |= position[n] >= 0;
    }
    dropped += asked && !kept;
  }
  return dropped;
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

// What the policy ranks by; empty where it asks by position.
std::vector<double> ranking_scores(const at::Tensor& score_TK, config::DropPolicy policy) {
  const bool by_first = policy == config::BATCH_PRIORITIZED;
  if (!by_first && policy != config::BY_PROBABILITY && policy != config::DEVICE_BUDGET) return {};
  const at::Tensor deciding = by_first ? score_TK.select(1, 0) : score_TK;
  const at::Tensor score = deciding.detach().to(at::kDouble).contiguous();
  std::vector<double> values(score.numel());
  std::transform(score.const_data_ptr<double>(), score.const_data_ptr<double>() + values.size(),
                 values.begin(), coarse);
  return values;
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
  const int64_t tokens = expert_TK.size(0), choices = expert_TK.size(1),
                group = options.group_tokens;
  SY_CHECK(group > 0 && tokens % group == 0, "{} tokens in groups of {}", tokens, group);
  Asking asking{options, expert_TK.const_data_ptr<int64_t>(), choices,
                admitted_TK.defined() ? admitted_TK.const_data_ptr<bool>() : nullptr,
                ranking_scores(score_TK, options.policy)};
  const at::Tensor position_TK = at::full({tokens, choices}, -1, at::kLong);
  auto* position = position_TK.mutable_data_ptr<int64_t>();
  for (; asking.first < tokens; asking.first += group) place(asking, position);
  return {position_TK, at::full({}, count_dropped(asking, position_TK), at::kLong),
          order_by_expert(expert_TK, position_TK, options.num_experts)};
}

}  // namespace switchyard::models
