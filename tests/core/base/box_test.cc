#include "core/base/box.h"

#include <numeric>

#include <gmock/gmock.h>

namespace switchyard {
namespace {

using testing::HasSubstr;

const std::vector<int64_t> kShape = {4, 6};

TEST(Box, SharesWithAnotherWhatBothHave) {
  const Box a{{0, 2}, {2, 4}}, b{{1, 0}, {3, 3}};
  EXPECT_EQ(intersection(a, b), (Box{{1, 2}, {1, 1}}));
  EXPECT_EQ(intersection(a, Box{{2, 2}, {2, 4}}), std::nullopt);  // they only touch
  EXPECT_EQ(intersection(Box{}, Box{}), Box{});                   // of a scalar
}

TEST(Box, LiesWithinAShapeOrNot) {
  EXPECT_TRUE(lies_within({{3, 0}, {1, 6}}, kShape));
  EXPECT_FALSE(lies_within({{3, 0}, {2, 6}}, kShape));
  EXPECT_FALSE(lies_within({{-1, 0}, {1, 6}}, kShape));
  EXPECT_FALSE(lies_within({{INT64_MAX, 0}, {4, 6}}, kShape));
  EXPECT_FALSE(lies_within({{0}, {4}}, kShape));
}

// The place of each element of the box in the tensor, counted row by row.
void append_elements(const Box& box, const std::vector<int64_t>& shape, size_t dim, int64_t before,
                     std::vector<int64_t>& elements) {
  if (dim == shape.size()) return elements.push_back(before);
  for (int64_t i = 0; i < box.extent[dim]; ++i)
    append_elements(box, shape, dim + 1, before * shape[dim] + box.offset[dim] + i, elements);
}

TEST(Boxes, OfARangeHaveItsElementsInOrder) {
  for (const std::vector<int64_t>& shape :
       {std::vector<int64_t>{}, {7}, {4, 6}, {2, 3, 4}, {1, 3, 1, 2}}) {
    const int64_t count = num_elements(shape);
    for (int64_t begin = 0; begin <= count; ++begin) {
      for (int64_t end = begin; end <= count; ++end) {
        const std::vector<Box> boxes = boxes_of_range(shape, {begin, end});
        EXPECT_LE(boxes.size(), std::max<size_t>(1, 2 * shape.size()));
        std::vector<int64_t> elements, expected(end - begin);
        for (const Box& box : boxes) append_elements(box, shape, 0, 0, elements);
        std::iota(expected.begin(), expected.end(), begin);
        EXPECT_EQ(elements, expected);
      }
    }
  }
}

TEST(Box, IsWrittenAsASlice) {
  EXPECT_EQ(slice_text({{0, 0}, {4, 6}}, kShape), "");
  EXPECT_EQ(slice_text({{3, 0}, {1, 6}}, kShape), "[3:4]");
  EXPECT_EQ(slice_text({{0, 2}, {4, 2}}, kShape), "[:, 2:4]");
}

TEST(Boxes, AreAPartitionOrSayWhyNot) {
  const Box top{{0, 0}, {2, 6}}, left{{2, 0}, {2, 3}}, right{{2, 3}, {2, 3}};
  const auto problem = [](std::vector<Box> boxes) { return partition_problem(kShape, boxes); };
  EXPECT_EQ(problem({right, top, left}), "");
  EXPECT_EQ(problem({{{0, 0}, {4, 6}}}), "");
  EXPECT_EQ(problem({top, left}), "6 of 24 numbers are not there, the first of them in [2]");
  EXPECT_EQ(problem({left, right}), "12 of 24 numbers are not there, the first of them in [0]");
  EXPECT_EQ(problem({}), "24 of 24 numbers are not there, the first of them in [0]");
  EXPECT_EQ(problem({top, left, right, left}), "[2:4, 0:3] and [2:4, 0:3] overlap");
  EXPECT_THAT(problem({top, {{1, 0}, {3, 6}}}), HasSubstr("[0:2] and [1:4] overlap"));
  EXPECT_EQ(partition_problem({}, std::vector<Box>{}), "the scalar is not there");
  EXPECT_EQ(partition_problem({}, std::vector<Box>{{}}), "");
  EXPECT_EQ(partition_problem({0, 3}, std::vector<Box>{}), "");
}

}  // namespace
}  // namespace switchyard
