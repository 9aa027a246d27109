#include "tests/parallel/exchange_suite.h"

#include <algorithm>

#include <gtest/gtest.h>

#include "core/tensor/aten.h"
#include "parallel/exchange.h"
#include "tests/testing/near.h"

namespace switchyard::parallel::exchange_suite {
namespace {

using switchyard::testing::is_near;

constexpr int64_t kExperts = 8, kTokens = 13, kWidth = 5;

// The expert of slot `slot` of rank `rank`; kDropped: the slot has no place.
constexpr int64_t kDropped = -1;
using Routing = int64_t (*)(int64_t slot, int rank);

int64_t uniform(int64_t slot, int rank) { return (slot + rank) % kExperts; }
int64_t skewed(int64_t slot, int rank) { return (slot * slot + rank) % 11 < 7 ? 0 : slot % 5; }
int64_t all_to_one(int64_t, int) { return kExperts - 1; }
int64_t some_empty(int64_t slot, int) { return slot % 2 * 4 + 1; }
int64_t all_empty(int64_t, int) { return kDropped; }
int64_t with_drops(int64_t slot, int rank) {
  return (slot + rank) % 3 == 0 ? kDropped : slot % kExperts;
}
constexpr Routing kRoutings[] = {uniform, skewed, all_to_one, some_empty, all_empty, with_drops};

struct Case {
  Routing routing;
  int64_t tokens, top_k;
  int64_t row_bucket = 1;
};

SlotOrder order_of(const Case& c, int rank) {
  std::vector<int64_t> slots, count(kExperts);
  for (int64_t expert = 0; expert < kExperts; ++expert) {
    for (int64_t slot = 0; slot < c.tokens * c.top_k; ++slot) {
      if (c.routing(slot, rank) != expert) continue;
      slots.push_back(slot);
      ++count[expert];
    }
  }
  return {at::tensor(slots, at::kLong), at::tensor(count, at::kLong), c.tokens, c.top_k};
}

// Differs in every element and on every rank; exact in bfloat16.
at::Tensor numbered(int64_t rows, int rank, at::ScalarType type) {
  return (at::arange(rows * kWidth, at::kDouble).view({rows, kWidth}) - 31 + 70 * rank).to(type);
}

at::Tensor pseudo_random(at::IntArrayRef shape, int seed) {
  const int64_t count = c10::multiply_integers(shape);
  return at::sin(at::arange(count, at::kDouble) * 1.7 + 13.1 * seed).view(shape);
}

// 1 where the slot was kept, on the token's first kept slot only.
at::Tensor one_hot_weights(const Case& c, int rank, at::ScalarType type) {
  at::Tensor weight = at::zeros({c.tokens, c.top_k}, type);
  for (int64_t token = 0; token < c.tokens; ++token) {
    for (int64_t choice = 0; choice < c.top_k; ++choice) {
      if (c.routing(token * c.top_k + choice, rank) == kDropped) continue;
      weight[token][choice] = 1;
      break;
    }
  }
  return weight;
}

void expect_round_trip(const Case& c, at::ScalarType type, Communicator& world) {
  const auto plan = make_plan(order_of(c, world.rank()), world, c.row_bucket);
  const at::Tensor x = numbered(c.tokens, world.rank(), type);
  const at::Tensor weight =
      one_hot_weights(c, world.rank(), type == at::kDouble ? at::kDouble : at::kFloat);
  const at::Tensor y = combine(dispatch(x, plan), weight, plan);
  const at::Tensor expected = x * weight.sum(1, true).to(type);
  EXPECT_TRUE(at::equal(y, expected)) << at::toString(type) << ", bucket " << c.row_bucket;
}

void returns_every_row_home_bit_by_bit(Communicator& world) {
  for (const Routing routing : kRoutings) {
    for (const int64_t top_k : {1, 3}) {
      for (const int64_t bucket : {1, 32}) {
        for (const auto type : {at::kBFloat16, at::kFloat, at::kDouble}) {
          expect_round_trip({routing, kTokens, top_k, bucket}, type, world);
        }
      }
    }
  }
}

void takes_a_rank_without_tokens(Communicator& world) {
  const int64_t tokens = world.rank() == world.size() - 1 ? 0 : kTokens;
  for (const Routing routing : kRoutings) {
    expect_round_trip({routing, tokens, 2, 32}, at::kFloat, world);
  }
}

// Rows say their rank, token and expert, so that each can be checked where it arrives.
void puts_rows_in_order_of_expert_then_source(Communicator& world) {
  for (const Routing routing : kRoutings) {
    const Case c{routing, kTokens, 2, 4};
    const auto plan = make_plan(order_of(c, world.rank()), world, c.row_bucket);
    at::Tensor x = at::zeros({kTokens, 2}, at::kDouble);
    x.select(1, 0).fill_(world.rank());
    x.select(1, 1).copy_(at::arange(kTokens, at::kDouble));
    const at::Tensor rows = dispatch(x, plan);

    std::vector<at::Tensor> expected;
    const int64_t local = kExperts / world.size();
    for (int64_t e = world.rank() * local; e < (world.rank() + 1) * local; ++e) {
      int64_t load = 0;
      for (int rank = 0; rank < world.size(); ++rank) {
        for (int64_t slot = 0; slot < kTokens * c.top_k; ++slot) {
          if (routing(slot, rank) != e) continue;
          expected.push_back(at::tensor({rank, static_cast<int>(slot / c.top_k)}, at::kDouble));
          ++load;
        }
      }
      EXPECT_EQ(plan->load[e % local], load);
      for (; load % c.row_bucket != 0; ++load) expected.push_back(at::zeros({2}, at::kDouble));
      EXPECT_EQ(plan->offsets[e % local + 1], static_cast<int64_t>(expected.size()));
    }
    EXPECT_EQ(rows.size(0), static_cast<int64_t>(expected.size()));
    if (expected.empty()) continue;
    EXPECT_TRUE(at::equal(rows, at::stack(expected)));
  }
}

// Every expert multiplies by a matrix of its own; this rank's tokens by plain autograd tensors.
at::Tensor dense_reference(const Case& c, int rank, const at::Tensor& x, const at::Tensor& weight) {
  std::vector<at::Tensor> y;
  for (int64_t token = 0; token < c.tokens; ++token) {
    at::Tensor sum = at::zeros({kWidth}, at::kDouble);
    for (int64_t choice = 0; choice < c.top_k; ++choice) {
      const int64_t expert = c.routing(token * c.top_k + choice, rank);
      if (expert == kDropped) continue;
      const at::Tensor matrix = pseudo_random({kWidth, kWidth}, static_cast<int>(expert));
      sum = sum + weight[token][choice] * at::mv(matrix, x[token]);
    }
    y.push_back(sum);
  }
  return y.empty() ? at::zeros({0, kWidth}, at::kDouble) : at::stack(y);
}

// The columns of a matrix that this rank holds, which are every so many of them; zeros elsewhere.
at::Tensor own_columns(const at::Tensor& matrix, const Communicator* sharers) {
  if (!sharers) return matrix;
  const at::Tensor column = at::arange(matrix.size(1), at::kLong);
  return matrix * column.remainder(sharers->size()).eq(sharers->rank());
}

at::Tensor run_experts(const at::Tensor& rows, const ExchangePlan& plan) {
  std::vector<at::Tensor> out;
  const auto local = static_cast<int64_t>(plan.load.size());
  for (int64_t e = 0; e < local; ++e) {
    const auto expert = static_cast<int>(plan.group->rank() * local + e);
    const at::Tensor matrix = own_columns(pseudo_random({kWidth, kWidth}, expert), plan.sharers);
    out.push_back(at::mm(rows.slice(0, plan.offsets[e], plan.offsets[e + 1]), matrix.t()));
  }
  return at::concat(out);
}

// Every expert lies on so many ranks, a part on each.
void expect_gradients_of_reference(const Case& c, Communicator& world, int num_sharers) {
  const int rank = world.rank();
  const auto group = world.split(rank % num_sharers, "experts");
  const auto sharers = world.split(rank / num_sharers, "sharers");
  const auto leaf = [&](at::IntArrayRef shape, int seed) {
    return pseudo_random(shape, seed + rank).requires_grad_();
  };
  at::Tensor x = leaf({c.tokens, kWidth}, 1), x_ref = leaf({c.tokens, kWidth}, 1);
  at::Tensor weight = leaf({c.tokens, c.top_k}, 2), weight_ref = leaf({c.tokens, c.top_k}, 2);
  const at::Tensor probe = pseudo_random({c.tokens, kWidth}, 3 + rank);

  const auto plan = make_plan(order_of(c, rank), *group, c.row_bucket, sharers.get());
  const at::Tensor y = combine(run_experts(dispatch(x, plan), *plan), weight, plan);
  const at::Tensor y_ref = dense_reference(c, rank, x_ref, weight_ref);
  EXPECT_TRUE(is_near(y, y_ref));
  (y * probe).sum().backward();
  const at::Tensor loss_ref = (y_ref * probe).sum() + 0 * (x_ref.sum() + weight_ref.sum());
  loss_ref.backward();
  EXPECT_TRUE(is_near(x.grad(), x_ref.grad())) << "x";
  EXPECT_TRUE(is_near(weight.grad(), weight_ref.grad())) << "weight";
}

void has_the_gradients_of_a_dense_reference(Communicator& world) {
  for (int num_sharers = 1; num_sharers <= world.size(); num_sharers *= 2) {
    for (const Routing routing : kRoutings) {
      for (const int64_t bucket : {1, 32})
        expect_gradients_of_reference({routing, kTokens, 3, bucket}, world, num_sharers);
    }
    const int64_t tokens = world.rank() == 0 ? 0 : kTokens;
    expect_gradients_of_reference({uniform, tokens, 2, 1}, world, num_sharers);
  }
}

// Whatever weight a dropped slot has, even NaN, nothing of it is seen.
void ignores_dropped_slots(Communicator& world) {
  const Case c{with_drops, kTokens, 2, 1};
  at::Tensor dropped = at::zeros({kTokens, c.top_k}, at::kBool);
  for (int64_t slot = 0; slot < kTokens * c.top_k; ++slot) {
    dropped.view(-1)[slot] = with_drops(slot, world.rank()) == kDropped;
  }
  const at::Tensor clean = pseudo_random({kTokens, c.top_k}, 5).to(at::kFloat);
  at::Tensor weight = clean.masked_fill(dropped, NAN).requires_grad_();
  const auto plan = make_plan(order_of(c, world.rank()), world, c.row_bucket);
  at::Tensor x = numbered(kTokens, world.rank(), at::kFloat).requires_grad_();
  const at::Tensor y = combine(dispatch(x, plan), weight, plan);
  EXPECT_TRUE(is_near(y, x * clean.masked_fill(dropped, 0).sum(1, true)));
  y.sum().backward();
  EXPECT_TRUE(
      is_near(x.grad(), clean.masked_fill(dropped, 0).sum(1, true).expand({kTokens, kWidth})));
  EXPECT_EQ(weight.grad().masked_select(dropped).abs().max().item<float>(), 0);
}

}  // namespace

const std::vector<Behaviour>& behaviours() {
  static const std::vector<Behaviour> all{
      {"returns_every_row_home_bit_by_bit", returns_every_row_home_bit_by_bit},
      {"takes_a_rank_without_tokens", takes_a_rank_without_tokens},
      {"puts_rows_in_order_of_expert_then_source", puts_rows_in_order_of_expert_then_source},
      {"has_the_gradients_of_a_dense_reference", has_the_gradients_of_a_dense_reference},
      {"ignores_dropped_slots", ignores_dropped_slots},
  };
  return all;
}

}  // namespace switchyard::parallel::exchange_suite
