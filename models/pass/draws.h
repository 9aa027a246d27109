#pragma once
// Random numbers of tokens: the same for a token whichever rank holds it.

#include <algorithm>
#include <cstdint>

#include "core/tensor/aten.h"
#include "models/pass/context.h"

namespace switchyard::models {

// [tokens, width] of `type` (float32 or float64) with draw(index) in each place, where the index is
// the token's global one * width + the column. `draw` must be thread-safe.
template <typename Draw>
at::Tensor draw_by_token(const TokenMap& map, int64_t tokens, int64_t width, at::ScalarType type,
                         const Draw& draw) {
  const at::Tensor out_TN = at::empty({tokens, width}, type);
  const int64_t grain = std::max<int64_t>(1, 4096 / std::max<int64_t>(1, width));
  AT_DISPATCH_FLOATING_TYPES(type, "draw_by_token", [&] {
    auto* value = out_TN.mutable_data_ptr<scalar_t>();
    at::parallel_for(0, tokens, grain, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        const int64_t first = map.global(t) * width;
        for (int64_t i = 0; i < width; ++i) {
          value[t * width + i] = static_cast<scalar_t>(draw(first + i));
        }
      }
    });
  });
  return out_TN;
}

}  // namespace switchyard::models
