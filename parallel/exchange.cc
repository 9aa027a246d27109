#include "parallel/exchange.h"

#include <algorithm>
#include <chrono>
#include <numeric>

#include "core/base/errors.h"
#include "core/base/seconds.h"
#include "core/tensor/aten.h"
#include "core/tensor/device_ops.h"
#include "core/tensor/differentiable.h"
#include "core/tensor/profiled_part.h"
#include "parallel/collectives.h"

namespace switchyard::parallel {
namespace {

using PlanPtr = std::shared_ptr<const ExchangePlan>;

at::Tensor new_rows(int64_t rows, const at::Tensor& like) {
  return at::empty({rows, like.size(1)}, like.options());
}

// What exchange takes, for the log.
template <typename F>
void timed(const ExchangePlan& plan, F&& exchange) {
  const auto start = std::chrono::steady_clock::now();
  exchange();
  plan.group->traffic().exchange_seconds += seconds_since(start);
}

// Rows in sending order -> rows in the order received (source rank, then expert), or back.
at::Tensor travel(const at::Tensor& rows, const ExchangePlan& plan, bool homeward,
                  const char* what) {
  if (plan.group->size() == 1) return rows;  // both orders are the expert order
  const ProfiledPart part("sy::exchange");
  ExchangeCounts counts = plan.counts;
  counts.row_bytes = rows.size(1) * static_cast<int64_t>(rows.element_size());
  if (homeward) std::swap(counts.send, counts.receive);
  at::Tensor out = new_rows(homeward ? plan.num_sent() : plan.num_received(), rows);
  timed(plan, [&] {
    plan.group->all_to_all_v(rows.const_data_ptr(), out.mutable_data_ptr(), counts, what);
  });
  return out;
}

at::Tensor gather(const at::Tensor& rows, const at::Tensor& index) {
  return device_ops(rows).gather_rows(rows, index);
}

// The rows that this rank received -> those that any sharer did; and terms of the latter -> sums of
// the former.
at::Tensor to_sharers(at::Tensor rows, const ExchangePlan& plan) {
  if (!plan.sharers) return rows;
  timed(plan, [&] { rows = gather_rows(rows, plan.row_of_arrival.size(0), *plan.sharers); });
  return rows;
}
at::Tensor from_sharers(at::Tensor rows, const ExchangePlan& plan) {
  if (!plan.sharers) return rows;
  timed(plan, [&] { rows = sum_to_shares(rows, *plan.sharers); });
  return rows.narrow(0, 0, plan.num_received());
}

at::Tensor outward(const at::Tensor& sent, const ExchangePlan& plan, const char* what) {
  return gather(to_sharers(travel(sent, plan, false, what), plan), plan.arrival_of_row);
}

at::Tensor homeward(const at::Tensor& rows, const ExchangePlan& plan, const char* what) {
  const at::Tensor arrivals = gather(rows.contiguous(), plan.row_of_arrival);
  return travel(from_sharers(arrivals, plan), plan, true, what);
}

// What each sharer receives for each local expert, from each rank of its group: [sharers, P, e].
std::vector<int64_t> counts_of_sharers(const std::vector<int64_t>& counts_Pe,
                                       Communicator* sharers) {
  if (!sharers) return counts_Pe;
  std::vector<int64_t> counts_SPe(sharers->size() * counts_Pe.size());
  sharers->all_gather(counts_Pe.data(), counts_SPe.data(),
                      std::ssize(counts_Pe) * int64_t{sizeof(int64_t)}, "dispatch counts");
  return counts_SPe;
}

// Received rows are ordered by source rank, then expert; those of experts by expert, then sharer
// and source rank.
void order_rows(const std::vector<int64_t>& counts_SPe, int64_t num_local, int64_t row_bucket,
                ExchangePlan& plan) {
  const int64_t num_sharers = plan.sharers ? plan.sharers->size() : 1;
  const int64_t counts_each = std::ssize(counts_SPe) / num_sharers;
  plan.load.assign(num_local, 0);
  std::vector<int64_t> received(num_sharers);
  for (int64_t i = 0; i < std::ssize(counts_SPe); ++i) {
    plan.load[i % num_local] += counts_SPe[i];
    received[i / counts_each] += counts_SPe[i];
  }
  const int64_t most = std::ranges::max(received);
  plan.offsets.assign(1, 0);
  for (const int64_t rows : plan.load)
    plan.offsets.push_back(plan.offsets.back() + (rows + row_bucket - 1) / row_bucket * row_bucket);
  plan.arrival_of_row = at::full({plan.num_rows()}, -1, at::kLong);
  plan.row_of_arrival = at::full({num_sharers * most}, -1, at::kLong);
  auto* arrival_of_row = plan.arrival_of_row.mutable_data_ptr<int64_t>();
  auto* row_of_arrival = plan.row_of_arrival.mutable_data_ptr<int64_t>();
  std::vector<int64_t> next(plan.offsets.begin(), plan.offsets.end() - 1);
  int64_t arrival = 0;
  for (int64_t i = 0; i < std::ssize(counts_SPe); ++i) {
    if (i % counts_each == 0) arrival = i / counts_each * most;
    for (int64_t n = 0; n < counts_SPe[i]; ++n, ++arrival) {
      const int64_t row = next[i % num_local]++;
      arrival_of_row[row] = arrival;
      row_of_arrival[arrival] = row;
    }
  }
}

void index_slots(const SlotOrder& order, ExchangePlan& plan) {
  plan.token_of_row = order.slot_N.floor_divide(order.top_k);
  plan.row_of_slot_TK = at::full({order.num_tokens * order.top_k}, -1, at::kLong)
                            .scatter_(0, order.slot_N, at::arange(order.slot_N.numel(), at::kLong))
                            .view({order.num_tokens, order.top_k});
}

}  // namespace

int64_t ExchangePlan::num_received() const {
  return std::reduce(counts.receive.begin(), counts.receive.end());
}

SlotOrder slots_of(const Slice& tokens, const SlotOrder& order) {
  const int64_t first = tokens.begin * order.top_k, end = tokens.end * order.top_k;
  const at::Tensor is_own_N = order.slot_N.ge(first).logical_and(order.slot_N.lt(end));
  const at::Tensor expert_N = at::arange(order.count_E.numel(), order.slot_N.options())
                                  .repeat_interleave(order.count_E)
                                  .masked_select(is_own_N);
  return {order.slot_N.masked_select(is_own_N) - first,
          at::bincount(expert_N, {}, order.count_E.numel()), tokens.size(), order.top_k};
}

PlanPtr make_plan(const SlotOrder& order, Communicator& group, int64_t row_bucket,
                  Communicator* sharers) {
  const int64_t num_ranks = group.size(), num_experts = order.count_E.numel();
  SY_CHECK(num_experts % num_ranks == 0, "{} experts over {} ranks", num_experts, num_ranks);
  const int64_t num_local = num_experts / num_ranks;

  const int64_t* count = order.count_E.const_data_ptr<int64_t>();
  std::vector<int64_t> counts_Pe(num_experts);  // from each rank, for each local expert
  const ExchangeCounts one_block{std::vector<int64_t>(num_ranks, num_local),
                                 std::vector<int64_t>(num_ranks, num_local), sizeof(int64_t)};
  group.all_to_all_v(count, counts_Pe.data(), one_block, "dispatch counts");

  auto plan = std::make_shared<ExchangePlan>();
  plan->group = &group;
  plan->sharers = sharers && sharers->size() > 1 ? sharers : nullptr;
  plan->counts.send.assign(num_ranks, 0);
  plan->counts.receive.assign(num_ranks, 0);
  for (int64_t i = 0; i < num_experts; ++i) {
    plan->counts.send[i / num_local] += count[i];
    plan->counts.receive[i / num_local] += counts_Pe[i];
  }
  order_rows(counts_of_sharers(counts_Pe, plan->sharers), num_local, row_bucket, *plan);
  index_slots(order, *plan);
  return plan;
}

at::Tensor dispatch(const at::Tensor& x_TD, const PlanPtr& plan) {
  const ProfiledPart part("sy::permute");
  const at::Tensor sent = gather(x_TD.detach().contiguous(), plan->token_of_row);
  const auto backward = [plan](const at::Tensor& d_rows, const std::vector<bool>&) {
    const at::Tensor home = homeward(d_rows, *plan, "dispatch backward");
    return std::vector{device_ops(home).sum_rows(home, plan->row_of_slot_TK, {})};
  };
  return differentiable("dispatch", {x_TD}, outward(sent, *plan, "dispatch"), backward);
}

at::Tensor combine(const at::Tensor& rows_RD, const at::Tensor& weight_TK, const PlanPtr& plan) {
  const ProfiledPart part("sy::permute");
  const at::Tensor home = homeward(rows_RD.detach(), *plan, "combine");
  const at::Tensor weight = weight_TK.detach();
  const auto backward = [home, weight, plan](const at::Tensor& dy, const std::vector<bool>&) {
    const auto gradient =
        device_ops(dy).sum_rows_backward(dy, {home, plan->row_of_slot_TK, weight});
    return std::vector{outward(gradient.source_RD, *plan, "combine backward"), gradient.weight_TK};
  };
  const at::Tensor y_TD = device_ops(home).sum_rows(home, plan->row_of_slot_TK, weight);
  return differentiable("combine", {rows_RD, weight_TK}, y_TD, backward);
}

}  // namespace switchyard::parallel
