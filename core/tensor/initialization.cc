#include "core/tensor/initialization.h"

#include <algorithm>

#include "core/tensor/aten.h"

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

// The rows of a box, counted over all its dimensions but the last: where they begin in the whole
// tensor, and in this rank's memory.
class Rows {
 public:
  Rows(const Parameter& parameter, const Piece& piece, const at::Tensor& local)
      : shape_(parameter.shape), box_(piece.global), strides_(local.strides()) {}

  int64_t width() const { return box_.extent.back(); }
  int64_t count() const {
    int64_t rows = 1;
    for (size_t d = 0; d + 1 < shape_.size(); ++d) rows *= box_.extent[d];
    return rows;
  }
  struct Begin {
    int64_t global, local;
  };
  Begin begin(int64_t row) const {
    Begin begin{box_.offset.back(), 0};
    int64_t stride = shape_.back();
    for (size_t d = shape_.size() - 1; d-- > 0;) {
      const int64_t index = row % box_.extent[d];
      row /= box_.extent[d];
      begin.global += (box_.offset[d] + index) * stride;
      begin.local += index * strides_[d];
      stride *= shape_[d];
    }
    return begin;
  }

 private:
  const std::vector<int64_t>& shape_;
  const Box& box_;
  at::IntArrayRef strides_;
};

}  // namespace

void initialize_piece(Parameter& parameter, const Piece& piece, const Random& random) {
  const Init& init = parameter.parts[piece.part].init;
  const at::Tensor local = view_of(parameter.master, piece.local);
  if (init.kind == Init::kConstant) {
    local.fill_(init.value);
    return;
  }
  const double scale = init.value * init.factor;
  const Rows rows(parameter, piece, local);
  const int64_t grain = std::max<int64_t>(1, kDrawsPerTask / std::max<int64_t>(1, rows.width()));
  AT_DISPATCH_FLOATING_TYPES(local.scalar_type(), "initialize", [&] {
    scalar_t* out = local.data_ptr<scalar_t>();
    at::parallel_for(0, rows.count(), grain, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        const auto [global, first] = rows.begin(row);
        for (int64_t i = 0; i < rows.width(); ++i)
          out[first + i] = static_cast<scalar_t>(draw(init, random, global + i) * scale);
      }
    });
  });
}

}  // namespace switchyard
