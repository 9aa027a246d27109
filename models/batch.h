#pragma once
// A micro-batch as tensors: what the data's Batch holds, for any architecture.

#include <ATen/core/Tensor.h>

namespace switchyard::models {

// A target is the next token, -1 where there is no loss; documents number those of a row.
struct TokenBatch {
  at::Tensor tokens_BS;     // int64
  at::Tensor targets_BS;    // int64
  at::Tensor documents_BS;  // int32
  // Defined for an encoder-decoder only, whose decoder the above is.
  at::Tensor source_BM = {};        // int64
  at::Tensor source_counts_B = {};  // int64; the tokens after so many are padding
  // Defined for cases of a table only.
  at::Tensor features_BD = {};  // float32
};

}  // namespace switchyard::models
