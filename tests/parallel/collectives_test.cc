#include "parallel/collectives.h"

#include <gtest/gtest.h>

#include "core/tensor/aten.h"
#include "parallel/thread.h"

namespace switchyard::parallel {
namespace {

constexpr int64_t kWidth = 3;

// Whole numbers, exact in bfloat16, so that sums in any order are the same.
at::Tensor numbered(int64_t rows, int rank, at::ScalarType type) {
  return (at::arange(rows * kWidth, at::kDouble).view({rows, kWidth}) - 7 + 20 * rank).to(type);
}

at::Tensor with_gradient(const at::Tensor& x) { return x.detach().clone().requires_grad_(true); }

struct Case {
  int ranks;
  int64_t rows;
};

// Fewer rows than ranks, none at all, shares that are uneven and one that is empty.
constexpr Case kCases[] = {{1, 5}, {2, 6}, {2, 5}, {4, 8}, {4, 5}, {4, 1}, {4, 0}};

template <typename F>
void for_each_case(F&& check) {
  for (const auto type : {at::kDouble, at::kFloat, at::kBFloat16}) {
    for (const auto& [ranks, rows] : kCases) {
      ThreadGroup(ranks).run([&, rows = rows](Communicator& group) { check(group, rows, type); });
    }
  }
}

TEST(ShareOfRows, CoversAllRowsInOrderOfRanks) {
  for (const auto& [ranks, rows] : kCases) {
    std::vector<Slice> shares(ranks);
    ThreadGroup(ranks).run([&, rows = rows](Communicator& group) {
      shares[group.rank()] = share_of_rows(rows, group);
    });
    int64_t next = 0;
    for (const Slice& share : shares) {
      EXPECT_EQ(share.begin, next);
      EXPECT_LE(share.size(), shares[0].size());
      next = share.end;
    }
    EXPECT_EQ(next, rows);
  }
}

TEST(GatherRows, BringsAllRowsAndSumsTheirGradients) {
  for_each_case([](Communicator& group, int64_t rows, at::ScalarType type) {
    const at::Tensor all = numbered(rows, 0, type);
    const at::Tensor share = with_gradient(own_rows(all, group));
    const at::Tensor gathered = gather_rows(share, rows, group);
    EXPECT_TRUE(gathered.equal(all));
    gathered.backward(numbered(rows, group.rank(), type));
    at::Tensor sum = at::zeros({rows, kWidth}, type);
    for (int rank = 0; rank < group.size(); ++rank) sum = sum + numbered(rows, rank, type);
    EXPECT_TRUE(share.grad().equal(own_rows(sum, group)));
  });
}

TEST(GatherRowsForAll, GivesEachRankTheGradientOfItsShare) {
  for_each_case([](Communicator& group, int64_t rows, at::ScalarType type) {
    const at::Tensor all = numbered(rows, 0, type), slope = numbered(rows, 1, type);
    const at::Tensor share = with_gradient(own_rows(all, group));
    const at::Tensor gathered = gather_rows_for_all(share, rows, group);
    EXPECT_TRUE(gathered.equal(all));
    gathered.backward(slope);
    EXPECT_TRUE(share.grad().equal(own_rows(slope, group)));
  });
}

TEST(SumToShares, SumsTermsAndGivesEachTheGradientOfTheSum) {
  for_each_case([](Communicator& group, int64_t rows, at::ScalarType type) {
    const at::Tensor terms = with_gradient(numbered(rows, group.rank(), type));
    const at::Tensor share = sum_to_shares(terms, group);
    at::Tensor sum = at::zeros({rows, kWidth}, type);
    for (int rank = 0; rank < group.size(); ++rank) sum = sum + numbered(rows, rank, type);
    EXPECT_TRUE(share.equal(own_rows(sum, group)));
    const at::Tensor slope = numbered(rows, 3, type);
    share.backward(own_rows(slope, group));
    EXPECT_TRUE(terms.grad().equal(slope));
  });
}

TEST(OwnRows, GivesTheOthersNoGradient) {
  ThreadGroup(2).run([](Communicator& group) {
    const at::Tensor rows = with_gradient(numbered(4, 0, at::kFloat));
    own_rows(rows, group).sum().backward();
    const Slice share = share_of_rows(4, group);
    for (int64_t row = 0; row < 4; ++row)
      EXPECT_EQ(rows.grad()[row][0].item<float>(), share.contains(row) ? 1 : 0);
  });
}

}  // namespace
}  // namespace switchyard::parallel
