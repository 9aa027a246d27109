#include "models/moe/assignment.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/base/errors.h"
#include "core/tensor/aten.h"

namespace switchyard::models {
namespace {

// The order in which a group's tokens ask for places.
std::vector<int64_t> token_order(const AssignOptions& options, int64_t first_token,
                                 const at::Tensor& weight_TK) {
  std::vector<int64_t> order(options.group_tokens);
  std::iota(order.begin(), order.end(), first_token);
  if (options.policy == config::BATCH_PRIORITIZED) {
    const at::Tensor first_weight = weight_TK.select(1, 0).to(at::kDouble).contiguous();
    const double* weight = first_weight.const_data_ptr<double>();
    std::stable_sort(order.begin(), order.end(),
                     [&](int64_t a, int64_t b) { return weight[a] > weight[b]; });
  }
  return order;
}

// Kept slots by expert, then slot id: a counting sort.
parallel::SlotOrder order_by_expert(const int64_t* expert, const std::vector<int64_t>& position,
                                    int64_t num_experts) {
  parallel::SlotOrder order;
  order.count.assign(num_experts, 0);
  const auto slots = static_cast<int64_t>(position.size());
  for (int64_t n = 0; n < slots; ++n) {
    if (position[n] >= 0) ++order.count[expert[n]];
  }
  std::vector<int64_t> next(num_experts, 0);
  std::partial_sum(order.count.begin(), order.count.end() - 1, next.begin() + 1);
  order.slot.resize(next.back() + order.count.back());
  for (int64_t n = 0; n < slots; ++n) {
    if (position[n] >= 0) order.slot[next[expert[n]]++] = n;
  }
  return order;
}

}  // namespace

int64_t capacity_of(const config::Capacity& capacity, bool training, int64_t group_tokens,
                    int64_t top_k, int64_t num_experts) {
  const double factor = training ? capacity.train_factor() : capacity.eval_factor();
  const int64_t asking = group_tokens * (capacity.counts_k() ? top_k : 1);
  const double wanted = factor * static_cast<double>(asking) / static_cast<double>(num_experts);
  const double slots = std::floor(std::min(wanted, static_cast<double>(group_tokens)));
  return std::max<int64_t>(static_cast<int64_t>(slots), capacity.minimum());
}

Assignment assign(const at::Tensor& expert_TK, const at::Tensor& weight_TK,
                  const std::vector<uint8_t>& admitted, const AssignOptions& options) {
  const int64_t tokens = expert_TK.size(0), choices = expert_TK.size(1),
                group = options.group_tokens;
  SY_CHECK(group > 0 && tokens % group == 0, "{} tokens in groups of {}", tokens, group);
  const int64_t* expert = expert_TK.const_data_ptr<int64_t>();
  const bool bounded = options.policy != config::NO_DROP;
  const bool one_place = options.policy == config::NEXT_FREE;

  Assignment result;
  result.position.assign(tokens * choices, -1);
  std::vector<int64_t> used(options.num_experts);
  std::vector<uint8_t> placed(tokens, 0);
  for (int64_t first = 0; first < tokens; first += group) {
    std::fill(used.begin(), used.end(), 0);
    const auto order = token_order(options, first, weight_TK);
    for (int64_t j = 0; j < choices; ++j) {  // all first choices before any second
      for (const int64_t t : order) {
        const int64_t n = t * choices + j;
        if ((one_place && placed[t]) || (!admitted.empty() && !admitted[n])) continue;
        if (bounded && used[expert[n]] >= options.capacity) {
          result.num_dropped += !one_place;
          continue;
        }
        result.position[n] = used[expert[n]]++;
        placed[t] = 1;
      }
    }
  }
  if (one_place) result.num_dropped = std::count(placed.begin(), placed.end(), 0);
  result.order = order_by_expert(expert, result.position, options.num_experts);
  result.order.num_tokens = tokens;
  result.order.top_k = choices;
  return result;
}

std::vector<uint8_t> admit_second_choice(const at::Tensor& weight_T2, double threshold,
                                         const std::vector<float>& uniform) {
  const at::Tensor weight = weight_T2.to(at::kDouble).contiguous();
  const double* values = weight.const_data_ptr<double>();
  std::vector<uint8_t> admitted(2 * uniform.size(), 1);
  for (size_t t = 0; t < uniform.size(); ++t) {
    admitted[2 * t + 1] = uniform[t] < values[2 * t + 1] / threshold;
  }
  return admitted;
}

}  // namespace switchyard::models
