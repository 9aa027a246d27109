#include "models/layers/relative_bias.h"

#include <algorithm>
#include <cmath>

#include "core/tensor/aten.h"
#include "core/tensor/ops.h"

namespace switchyard::models {

int64_t relative_bucket(int64_t query_position, int64_t key_position,
                        const RelativeBuckets& buckets) {
  int64_t distance = query_position - key_position, count = buckets.count, offset = 0;
  if (buckets.bidirectional) {
    count /= 2;
    if (distance < 0) offset = count;
    distance = std::abs(distance);
  } else {
    distance = std::max<int64_t>(distance, 0);
  }
  const int64_t exact = count / 2;
  if (distance < exact) return offset + distance;
  const double share =
      std::log(static_cast<double>(distance) / static_cast<double>(exact)) /
      std::log(static_cast<double>(buckets.max_distance) / static_cast<double>(exact));
  const auto beyond = static_cast<int64_t>(share * static_cast<double>(count - exact));
  return offset + std::min(exact + beyond, count - 1);
}

RelativeBias::RelativeBias(const Scope& scope, const config::Model& model, bool bidirectional)
    : buckets_{.bidirectional = bidirectional},
      table_(scope.parameter("relative_bias", {buckets_.count, model.attention().num_heads()},
                             {Init::kNormal, model.init_std()}, /*decay=*/false)) {}

at::Tensor RelativeBias::forward(int64_t first_query, int64_t queries, int64_t keys,
                                 at::ScalarType type) const {
  at::Tensor bucket_QK = at::empty({queries, keys}, at::kLong);
  int64_t* bucket = bucket_QK.mutable_data_ptr<int64_t>();
  for (int64_t q = 0; q < queries; ++q) {
    for (int64_t k = 0; k < keys; ++k) {
      bucket[q * keys + k] = relative_bucket(first_query + q, k, buckets_);
    }
  }
  return embedding(bucket_QK, table_).to(type).permute({2, 0, 1}).unsqueeze(0);
}

}  // namespace switchyard::models
