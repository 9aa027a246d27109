#pragma once
// T5's attention (Raffel et al., 2020), of a sequence to itself or to the encoder's output: no
// rotation and no scaling of the scores, whose size is left to the queries' initialisation;
// positions enter by a bias that the caller adds to the mask.

#include <cstdint>
#include <optional>

#include <ATen/core/Tensor.h>

#include "core/config/run_config.pb.h"
#include "core/tensor/parameter.h"
#include "models/layers/attend.h"
#include "models/layers/attention.h"
#include "models/layers/dense.h"

namespace switchyard::models {

// The heads are dealt over the tensor ranks: each returns one summand of the output, which the
// caller adds up (Rows::sum), and widths below are those of its own heads.
class T5Attention {
 public:
  enum class Kind : uint8_t {
    kSelf,
    kProjected,  // queries, keys and values come from elsewhere
    kCross,      // keys and values are the source's
  };
  // Registers <scope>.query [H d, D], <scope>.key_value [2 KV d, D] (its parts key above value) and
  // <scope>.out [D, H d]; kProjected registers the last alone.
  T5Attention(const Scope& scope, const config::Model& model, Kind kind = Kind::kSelf);

  // Rows [T, D] -> queries [T, H d]; keys and, beside them, values [T, 2 KV d], or of a part of a
  // head where there are fewer heads than ranks.
  at::Tensor query(const at::Tensor& x_TD) const;
  at::Tensor key_value(const at::Tensor& memory_TD) const;

  // Keys and values, as key_value() or what is in its place makes them, are appended to the cache,
  // which is empty for whole texts, **collective** as whole_heads() is over the ranks of `rows`;
  // and queries [B*S, H d] attend to all that is in it -> [B*S, D]. mask (may be undefined) [1 or
  // B, 1 or H, S, M] is added to the scores, -inf hides.
  void extend(const at::Tensor& key_value_TE, int64_t sequences, const Rows& rows,
              KvCache& cache) const;
  at::Tensor attend_to(const KvCache& cache, const at::Tensor& query_TQ,
                       const at::Tensor& mask_BHSM, const InnerDropout& dropout = {}) const;

 private:
  at::Tensor heads(const at::Tensor& flat, int64_t sequences) const;

  int64_t num_heads_, head_dim_;
  ScoreOptions scores_;
  std::optional<Dense> query_, key_value_;  // none: they come from elsewhere
  Dense out_;
};

}  // namespace switchyard::models
