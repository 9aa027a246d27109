#pragma once
// Random numbers of tokens: the same for a token whichever rank holds it.

#include <algorithm>
#include <cstdint>

#include "core/tensor/aten.h"
#include "models/pass/context.h"

namespace switchyard::models {

// [rows, width] of `type` (float32 or float64) with value(row, column) in each place. `value` must
// be thread-safe.
template <typename Value>
at::Tensor fill_rows(int64_t rows, int64_t width, at::ScalarType type, const Value& value) {
  const at::Tensor out = at::empty({rows, width}, type);
  const int64_t grain = std::max<int64_t>(1, 4096 / std::max<int64_t>(1, width));
  AT_DISPATCH_FLOATING_TYPES(type, "fill_rows", [&] {
    auto* place = out.mutable_data_ptr<scalar_t>();
    at::parallel_for(0, rows, grain, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        for (int64_t i = 0; i < width; ++i) {
          place[row * width + i] = static_cast<scalar_t>(value(row, i));
        }
      }
    });
  });
  return out;
}

// [tokens, width] with draw(index) in each place, where the index is the token's global one * width
// + the column.
template <typename Draw>
at::Tensor draw_by_token(const TokenMap& map, int64_t tokens, int64_t width, at::ScalarType type,
                         const Draw& draw) {
  return fill_rows(tokens, width, type,
                   [&](int64_t token, int64_t i) { return draw(map.global(token) * width + i); });
}

}  // namespace switchyard::models
