// Initial values of parameters, drawn by counter: each is a function of the generator and of the
// element's place in the whole tensor, so that every layout starts with the same numbers. See
// core/tensor/parameter.h.

#include <algorithm>

#include "core/base/errors.h"
#include "core/base/fingerprint.h"
#include "core/base/random.h"
#include "core/tensor/aten.h"
#include "core/tensor/parameter.h"

namespace switchyard {
namespace {

constexpr int64_t kDrawsPerTask = 4096;

// One draw of unit scale.
double draw(const Init& init, const Random& random, int64_t index) {
  switch (init.kind) {
    case Init::kTruncatedNormal:
      return random.truncated_normal(index, init.cut);
    case Init::kUniform:
      return 2.0 * random.uniform(index) - 1;
    default:
      return random.normal(index);
  }
}

// Where the rows of a box, counted over all its dimensions but the last, begin in the contiguous
// tensor of this shape.
at::Tensor row_begins(std::vector<int64_t> shape, Box box) {
  const int64_t width = shape.back(), first = box.offset.back();
  for (auto* sizes : {&shape, &box.offset, &box.extent}) sizes->pop_back();
  const at::Tensor row = at::arange(num_elements(shape)).view(shape);
  return view_of(row, box).flatten() * width + first;
}

// Fills the piece of `exact`, which has the parameter's local shape, as its part's `init` says.
void initialize_piece(const Parameter& parameter, const Piece& piece, const Random& random,
                      const at::Tensor& exact) {
  const Init& init = parameter.parts[piece.part].init;
  if (init.kind == Init::kConstant) {
    view_of(exact, piece.local).fill_(init.value);
    return;
  }
  const double scale = init.value * init.factor;
  const at::Tensor global = row_begins(parameter.shape, piece.global),
                   local = row_begins(parameter.local_shape(), piece.local);
  const int64_t *from = global.const_data_ptr<int64_t>(), *to = local.const_data_ptr<int64_t>();
  const int64_t width = piece.local.extent.back();
  const int64_t grain = std::max<int64_t>(1, kDrawsPerTask / std::max<int64_t>(1, width));
  AT_DISPATCH_FLOATING_TYPES(exact.scalar_type(), "initialize", [&] {
    auto* out = exact.mutable_data_ptr<scalar_t>();
    at::parallel_for(0, global.numel(), grain, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        for (int64_t i = 0; i < width; ++i)
          out[to[row] + i] = static_cast<scalar_t>(draw(init, random, from[row] + i) * scale);
      }
    });
  });
}

}  // namespace

void ParameterTable::initialize(uint64_t seed) {
  for (Parameter& parameter : parameters_) {
    SY_CHECK(parameter.value.defined(), "parameter {}: initialize() before allocate()",
             parameter.name);
    const uint64_t stream = Fingerprint().add(parameter.name).value();
    const Random random(seed, Stream::kInit, stream);
    const at::Tensor exact = parameter.blank();
    for (const Piece& piece : parameter.pieces()) initialize_piece(parameter, piece, random, exact);
    parameter.store(exact);
  }
}

}  // namespace switchyard
