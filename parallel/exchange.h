#pragma once
// Token exchange over the expert group: takes each slot's row to the rank that owns its expert and
// brings the result home. Above the communicator, below the MoE layer; knows nothing of routers.
// GShard (2020) section 3.2.
//
//   plan      counts only            (collective)
//   dispatch  x_TD    -> rows_RD     (collective; its gradient is a sum of rows brought home)
//   combine   rows_RD -> y_TD        (collective; its gradient is a weighted dispatch)
//
// Where several ranks hold each expert together, a part of its hidden layer each, a row travels to
// one of these sharers, which hands it to the others; what they compute of it are terms, whose sum
// travels home.
//
// All members of the groups call all three, in the same order, also with zero rows; the graph is
// the same on every rank, so the collectives of backward meet as well.

#include <cstdint>
#include <memory>
#include <vector>

#include <ATen/core/Tensor.h>

#include "core/base/layout.h"
#include "parallel/communicator.h"

namespace switchyard::parallel {

// The kept slots of this rank's tokens, expert by expert (all experts of the group, in order of
// their global id).
struct SlotOrder {
  at::Tensor slot_N;   // int64; slot id = token * top_k + choice
  at::Tensor count_E;  // int64; sums to the number of slots
  int64_t num_tokens = 0;
  int64_t top_k = 0;
};

// The part of `order` that belongs to these tokens, which count from tokens.begin.
SlotOrder slots_of(const Slice& tokens, const SlotOrder& order);

// Where every row goes. Immutable once made; kept by backward and reused by recompute.
struct ExchangePlan {
  Communicator* group = nullptr;
  Communicator* sharers = nullptr;  // null: this rank holds its experts alone
  ExchangeCounts counts;            // rows to and from each rank of the group; row_bytes unset
  std::vector<int64_t>
      offsets;  // [e + 1] expert-major rows of this rank's experts, padding included
  at::Tensor
      token_of_row;  // [sent] int64: the token of each row sent, in order of destination and expert
  at::Tensor
      row_of_slot_TK;  // [T, K] int64: where a slot's row stands among those sent; -1: dropped
  // Arrivals are the rows that each sharer received, with gaps after them where another has more.
  at::Tensor arrival_of_row;  // [R] int64: which arrival an expert-major row is; -1: padding
  at::Tensor row_of_arrival;  // [arrivals] int64: the inverse; -1: a gap
  std::vector<int64_t> load;  // [e] rows of each local expert, without padding

  int64_t num_sent() const { return token_of_row.size(0); }
  int64_t num_received() const;  // from the group
  int64_t num_rows() const { return offsets.back(); }
};

// **Collective** over the group that experts are dealt over, and over the `sharers` that hold this
// rank's experts together (null: it does so alone). Exchanges counts. Each expert's rows are padded
// with zero rows up to a multiple of `row_bucket` (1: none), because a matrix library may build a
// new kernel for every row count it meets.
[[nodiscard]] std::shared_ptr<const ExchangePlan> make_plan(const SlotOrder& order,
                                                            Communicator& group, int64_t row_bucket,
                                                            Communicator* sharers = nullptr);

// **Collective, differentiable.** x [tokens, d_model] -> [R, d_model], expert-major; padding rows
// are zero.
[[nodiscard]] at::Tensor dispatch(const at::Tensor& x_TD,
                                  const std::shared_ptr<const ExchangePlan>& plan);

// **Collective, differentiable** in both. rows [R, d_model], of several sharers terms of them,
// which are added up in float32 (float64) and in the order of the sharers; weight [tokens, top_k]
// float32 (float64) -> [tokens, d_model]. The sum over a token's kept slots runs in slot order in
// float32; a dropped slot adds nothing.
[[nodiscard]] at::Tensor combine(const at::Tensor& rows_RD, const at::Tensor& weight_TK,
                                 const std::shared_ptr<const ExchangePlan>& plan);

}  // namespace switchyard::parallel
