// How much a layout may change of a number: see trainer/selfcheck/selfcheck.h.

#include <algorithm>
#include <limits>

#include "trainer/selfcheck/selfcheck.h"

namespace switchyard::trainer {
namespace {

// What a difference may be, and of what: single numbers, or a tensor as a whole.
struct Limit {
  double allowed = 0;
  bool is_coarse = false;
};

bool is_number(Quantity quantity) {
  return quantity == Quantity::kLoss || quantity == Quantity::kNorm;
}

// Until an update or another decision of a router has come between, two meshes differ by rounding
// alone.
Limit limit_of_rounding(config::ComputeType compute, Quantity quantity) {
  if (compute == config::FP64) return {1e-10, false};
  if (compute == config::FP32) return {1e-5, false};
  return {is_number(quantity) ? 1e-3 : 0.02, true};
}

// An update divides each gradient by its own size, and with it the rounding of those that are next
// to zero: single numbers of tensors are not as close any more, unless nothing was rounded much.
Limit limit_after_updates(config::ComputeType compute, Quantity quantity) {
  if (compute == config::FP64 || (compute == config::FP32 && is_number(quantity)))
    return limit_of_rounding(compute, quantity);
  if (compute == config::FP32) return {1e-3, true};
  return {is_number(quantity) ? 0.02 : 0.5, true};
}

// is_parted: some slot was decided otherwise by then.
Limit limit_of(config::ComputeType compute, Quantity quantity, int64_t step, bool is_parted) {
  if (is_parted && compute != config::FP64) return limit_after_updates(config::BF16, quantity);
  const bool is_updated = step > 1 || quantity == Quantity::kState || quantity == Quantity::kWeight;
  return is_updated ? limit_after_updates(compute, quantity) : limit_of_rounding(compute, quantity);
}

// Of the slots that a near tie may decide otherwise.
double allowed_share(config::ComputeType compute) {
  switch (compute) {
    case config::FP64:
      return 0;
    case config::FP32:
      return 0.01;
    default:
      return 0.1;
  }
}

// The first step in which some slot was decided otherwise.
int64_t parting_of(const Differences& differences) {
  int64_t first = std::numeric_limits<int64_t>::max();
  for (const auto& [key, difference] : differences)
    if (difference.differing > 0) first = std::min(first, key.second);
  return first;
}

void judge_routing(const Difference& difference, int64_t step, double allowed, Judgement& so_far) {
  so_far.allowed = allowed;
  so_far.differing += difference.differing;
  so_far.decisions += difference.decisions;
  so_far.error = static_cast<double>(so_far.differing) / static_cast<double>(so_far.decisions);
  so_far.misses = so_far.error > allowed;
  if (difference.differing == 0 || !so_far.where.empty()) return;
  so_far.where = difference.element.name;
  so_far.step = step;
}

// Keeps the first step that misses, else the one that comes closest to its limit.
void judge_numbers(const Difference& difference, int64_t step, const Limit& limit,
                   Judgement& so_far) {
  const Worst& worst = limit.is_coarse ? difference.norm : difference.element;
  const bool is_first = so_far.where.empty();
  if (so_far.misses) return;
  if (!is_first && worst.error / limit.allowed <= so_far.error / so_far.allowed) return;
  so_far.error = worst.error;
  so_far.allowed = limit.allowed;
  so_far.where = worst.name;
  so_far.step = step;
  so_far.misses = worst.error > limit.allowed;
  so_far.is_coarse = limit.is_coarse;
}

}  // namespace

std::vector<Judgement> judge(const Differences& differences, config::ComputeType compute) {
  const int64_t parting = parting_of(differences);
  std::vector<Judgement> judgements;
  for (const auto& [key, difference] : differences) {
    const auto& [quantity, step] = key;
    if (judgements.empty() || judgements.back().quantity != quantity)
      judgements.push_back({.quantity = quantity});
    Judgement& judgement = judgements.back();
    if (quantity == Quantity::kRouting)
      judge_routing(difference, step, allowed_share(compute), judgement);
    else
      judge_numbers(difference, step, limit_of(compute, quantity, step, step >= parting),
                    judgement);
  }
  return judgements;
}

}  // namespace switchyard::trainer
