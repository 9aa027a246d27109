#pragma once
// Where tokens stand, as attention sees it: rotary angles, T5's relative buckets, masks. Su et al.
// (2021), RoFormer; Peng et al. (2023), YaRN; Raffel et al. (2020), T5.

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "core/config/run_config.pb.h"

namespace switchyard::models {

// Cosine and sine of every position's angles, [length, width/2] float.
struct RotaryTables {
  at::Tensor cos_Sd, sin_Sd;
};
// Of positions first .. first + length - 1; width: the channels of a head that are rotated. With
// attention.yarn, frequencies slower than its beta_slow are divided by its factor, those faster
// than beta_fast stay, between them a linear ramp.
RotaryTables rotary_tables(const config::Attention& attention, int64_t first, int64_t length);

// T5's bucket of each distance, [queries, keys] int64; key 0 is position 0, query 0 is position
// first_query. Half of a side's buckets are exact distances, the others logarithmic up to
// max_distance. Causal: later keys share bucket 0 with distance 0. Bidirectional: half of the
// buckets for each side, later keys in the upper half.
at::Tensor relative_buckets(const config::RelativeBias& options, int64_t first_query,
                            int64_t queries, int64_t keys, bool bidirectional);

// 0 where a token may look, -inf elsewhere: the same document, not later, and less than `window`
// positions back (0: any). documents [B, S] int32 -> [B, 1, S, S].
at::Tensor document_mask(const at::Tensor& documents_BS, int64_t window,
                         const at::TensorOptions& options);

// Such a mask for positions seen .. seen + length - 1 of one text whose first `seen` positions came
// before: [1, 1, length, seen + length]; undefined where every position is visible.
at::Tensor continuation_mask(int64_t seen, int64_t length, int64_t window,
                             const at::TensorOptions& options);

// 0 where is_real [B, S] bool, -inf in padding -> [B, 1, 1, S]. A row without any real position
// shows its first, so that a softmax has something to share out.
at::Tensor padding_mask(const at::Tensor& is_real_BS, const at::TensorOptions& options);

}  // namespace switchyard::models
