#include "core/tensor/dealing.h"

#include <algorithm>
#include <numeric>

namespace switchyard {
namespace {

// Of float32, 4 MiB: large enough for the network, small enough to start early in backward.
constexpr int64_t kBucketBlocks = 16;

// Elements of the next bucket, where `left` are still to be put into some.
int64_t next_bucket(int64_t left) { return std::min(left, kBucketBlocks * kSquaresBlock); }

// The same where all ranks own equally much of a bucket: whole blocks as long as that can be.
int64_t next_bucket_of_elements(int64_t left, int64_t ranks) {
  const int64_t most = kSquaresBlock * std::max<int64_t>(1, kBucketBlocks / ranks);
  const int64_t each = left / ranks, blocks = each / kSquaresBlock * kSquaresBlock;
  return ranks * (blocks == 0 ? each : std::min(most, blocks));
}

void cut_in_buckets(Deal& deal) {
  const int64_t ranks = deal.place.size;
  for (int64_t begin = 0; begin < deal.count;) {
    const int64_t left = deal.count - begin;
    const int64_t size = deal.dealing == Dealing::kElements ? next_bucket_of_elements(left, ranks)
                                                            : next_bucket(left);
    deal.buckets.push_back({begin, begin + size});
    begin += size;
  }
}

std::vector<Slice> owners_of_parameters(const Deal& deal, std::span<const int64_t> sizes) {
  std::vector<Slice> owners(deal.place.size);
  int64_t begin = 0;
  for (const int64_t size : sizes) {
    const int64_t twice_middle = 2 * begin + size;
    begin += size;
    owners[twice_middle * deal.place.size / (2 * deal.count)].end = begin;
  }
  for (size_t rank = 1; rank < owners.size(); ++rank) {
    owners[rank].begin = owners[rank - 1].end;
    owners[rank].end = std::max(owners[rank].begin, owners[rank].end);
  }
  return owners;
}

}  // namespace

Slice Deal::share(const Slice& bucket, int rank) const {
  switch (dealing) {
    case Dealing::kParameters:
      return {std::clamp(owners[rank].begin, bucket.begin, bucket.end),
              std::clamp(owners[rank].end, bucket.begin, bucket.end)};
    case Dealing::kElements: {
      const Slice share = share_of(bucket.size(), {rank, place.size});
      return {bucket.begin + share.begin, bucket.begin + share.end};
    }
    default:
      return bucket;
  }
}

std::vector<Slice> Deal::owned() const {
  std::vector<Slice> all;
  for (const Slice& bucket : buckets) {
    const Slice share = owned(bucket);
    if (share.size() == 0) continue;
    if (!all.empty() && all.back().end == share.begin)
      all.back().end = share.end;
    else
      all.push_back(share);
  }
  return all;
}

bool Deal::is_scattered(const Slice& bucket) const {
  return dealing == Dealing::kElements && owned(bucket).size() % kSquaresBlock == 0;
}

Deal deal(Dealing dealing, Axis axis, const Place& place, std::span<const int64_t> sizes) {
  Deal result{place.size == 1 ? Dealing::kWhole : dealing, axis, place, 0, {}, {}};
  result.count = std::accumulate(sizes.begin(), sizes.end(), int64_t{0});
  if (result.dealing == Dealing::kParameters) result.owners = owners_of_parameters(result, sizes);
  if (result.dealing == Dealing::kElements) {
    const int64_t unit = place.size * kAlignElements;
    result.count = (result.count + unit - 1) / unit * unit;
  }
  cut_in_buckets(result);
  return result;
}

}  // namespace switchyard
