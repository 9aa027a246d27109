#pragma once
// T5's relative position bias (Raffel et al., 2020): a learned number per head for each bucket of
// distances, added to the attention scores. One table serves all layers of a stack.

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "core/config/run_config.pb.h"
#include "core/tensor/parameter.h"

namespace switchyard::models {

struct RelativeBuckets {
  int64_t count = 32;
  int64_t max_distance = 128;  // from here on, distances share the last bucket
  bool bidirectional = false;  // half of the buckets for keys to the right; else those count as 0
};

// The bucket of a key: exact for small distances, then logarithmic up to max_distance.
int64_t relative_bucket(int64_t query_position, int64_t key_position,
                        const RelativeBuckets& buckets);

class RelativeBias {
 public:
  // Registers <scope>.relative_bias [buckets, heads].
  RelativeBias(const Scope& scope, const config::Model& model, bool bidirectional);

  // [1, H, queries, keys] of `type`, differentiable, for queries at first_query, first_query + 1,
  // ... and keys from 0 on.
  at::Tensor forward(int64_t first_query, int64_t queries, int64_t keys, at::ScalarType type) const;

 private:
  RelativeBuckets buckets_;
  Parameter& table_;
};

}  // namespace switchyard::models
