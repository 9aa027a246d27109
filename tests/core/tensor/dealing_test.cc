#include "core/tensor/dealing.h"

#include <algorithm>
#include <numeric>

#include <gtest/gtest.h>

namespace switchyard {
namespace {

// In order and without a gap.
void expect_partition(const std::vector<Slice>& slices, const Slice& whole) {
  int64_t next = whole.begin;
  for (const Slice& slice : slices) {
    EXPECT_EQ(slice.begin, next);
    EXPECT_GE(slice.end, slice.begin);
    next = slice.end;
  }
  EXPECT_EQ(next, whole.end);
}

std::vector<Slice> shares_of(const Deal& deal, const Slice& bucket) {
  std::vector<Slice> shares;
  for (int rank = 0; rank < deal.place.size; ++rank) shares.push_back(deal.share(bucket, rank));
  return shares;
}

TEST(Dealing, OfElementsGivesAllRanksEquallyMuchInWholeLines) {
  for (const int ranks : {2, 3, 4, 64}) {
    for (const int64_t count : {32, 4096, 2 * 65536, 1'000'032, 20'000'000}) {
      SCOPED_TRACE(testing::Message() << count << " elements over " << ranks << " ranks");
      const Deal deal =
          switchyard::deal(Dealing::kElements, Axis::kData, {1, ranks}, std::vector{count});
      EXPECT_GE(deal.count, count);
      EXPECT_LT(deal.count, count + ranks * kAlignElements);
      expect_partition(deal.buckets, {0, deal.count});
      int64_t rest = 0;  // which all ranks reduce
      for (const Slice& bucket : deal.buckets) {
        expect_partition(shares_of(deal, bucket), bucket);
        EXPECT_EQ(bucket.begin % kSquaresBlock, 0);
        EXPECT_EQ(deal.owned(bucket).size() * ranks, bucket.size());
        EXPECT_EQ(deal.owned(bucket).size() % kAlignElements, 0);
        if (!deal.is_scattered(bucket)) rest += bucket.size();
      }
      EXPECT_LT(rest, ranks * kSquaresBlock);
    }
  }
}

TEST(Dealing, OfParametersGivesEachAnOwnerWithoutMuchMoreThanItsShare) {
  const std::vector<int64_t> kSizes[] = {
      {32}, {3'200'000, 32, 32}, {32, 3200, 64, 32}, std::vector<int64_t>(37, 640'000)};
  for (const int ranks : {2, 3, 8}) {
    for (const auto& sizes : kSizes) {
      const Deal deal = switchyard::deal(Dealing::kParameters, Axis::kData, {1, ranks}, sizes);
      expect_partition(deal.buckets, {0, deal.count});
      expect_partition(deal.owners, {0, deal.count});
      for (const Slice& bucket : deal.buckets) {
        expect_partition(shares_of(deal, bucket), bucket);
        EXPECT_FALSE(deal.is_scattered(bucket));
      }
      EXPECT_LE(deal.owned().size(), 1u);
      int64_t begin = 0;
      for (const int64_t size : sizes) {
        EXPECT_TRUE(std::ranges::any_of(
            deal.owners,
            [&](const Slice& share) { return share.begin <= begin && begin + size <= share.end; }))
            << "parameter at " << begin;
        begin += size;
      }
      for (const Slice& share : deal.owners)
        EXPECT_LE(share.size(), deal.count / ranks + std::ranges::max(sizes));
    }
  }
}

TEST(Dealing, LeavesAllToEverybodyWhereNobodyElseHoldsIt) {
  const Deal deal =
      switchyard::deal(Dealing::kElements, Axis::kData, {0, 1}, std::vector{int64_t{96}});
  EXPECT_EQ(deal.dealing, Dealing::kWhole);
  EXPECT_EQ(deal.count, 96);
  ASSERT_EQ(deal.owned().size(), 1u);
  EXPECT_EQ(deal.owned()[0].size(), 96);
}

}  // namespace
}  // namespace switchyard
