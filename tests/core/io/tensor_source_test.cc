#include "core/io/tensor_source.h"

#include <gtest/gtest.h>

#include "core/base/random.h"

namespace switchyard {
namespace {

const std::vector<int64_t> kShape = {3, 4, 5};

// The element at a place of the whole tensor has this value.
float value_at(int64_t i, int64_t j, int64_t k) {
  return static_cast<float>((i * kShape[1] + j) * kShape[2] + k);
}

template <typename Visit>
void for_each_in(const Box& box, Visit visit) {
  for (int64_t i = 0; i < box.extent[0]; ++i)
    for (int64_t j = 0; j < box.extent[1]; ++j)
      for (int64_t k = 0; k < box.extent[2]; ++k)
        visit(box.offset[0] + i, box.offset[1] + j, box.offset[2] + k);
}

Box random_box(const Random& random, uint64_t draw) {
  Box box;
  for (size_t dim = 0; dim < kShape.size(); ++dim) {
    const auto bits = random.bits64(8 * draw + dim);
    box.offset.push_back(static_cast<int64_t>(bits % static_cast<uint64_t>(kShape[dim])));
    const auto room = static_cast<uint64_t>(kShape[dim] - box.offset[dim]);
    box.extent.push_back(1 + static_cast<int64_t>((bits >> 32) % room));
  }
  return box;
}

TEST(CopyCommon, CopiesWhatBothBoxesHaveAndNothingElse) {
  const Random random(1, Stream::kInit, 0);
  for (uint64_t round = 0; round < 300; ++round) {
    const bool whole = round % 10 == 0;
    const Box from = whole ? whole_box(kShape) : random_box(random, 2 * round);
    const Box to = random_box(random, 2 * round + 1);
    std::vector<float> source;
    for_each_in(from,
                [&](int64_t i, int64_t j, int64_t k) { source.push_back(value_at(i, j, k)); });
    std::vector<double> target(static_cast<size_t>(num_elements(to.extent)), -1);
    copy_common({DType::kFloat32, from, std::as_bytes(std::span(source))}, to, DType::kFloat64,
                std::as_writable_bytes(std::span(target)));
    size_t at = 0;
    for_each_in(to, [&](int64_t i, int64_t j, int64_t k) {
      const bool is_common = intersection(from, {{i, j, k}, {1, 1, 1}}).has_value();
      EXPECT_EQ(target[at++], is_common ? value_at(i, j, k) : -1) << round;
    });
  }
}

TEST(CopyCommon, CopiesAScalar) {
  const float source = 2.5F;
  double target = 0;
  copy_common({DType::kFloat32, {}, std::as_bytes(std::span(&source, 1))}, {}, DType::kFloat64,
              std::as_writable_bytes(std::span(&target, 1)));
  EXPECT_EQ(target, 2.5);
}

}  // namespace
}  // namespace switchyard
