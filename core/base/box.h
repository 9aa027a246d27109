#pragma once
// Boxes: a range of each dimension of a tensor. Integers alone.

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/base/layout.h"

namespace switchyard {

struct Box {
  std::vector<int64_t> offset, extent;  // one number per dimension
  bool operator==(const Box&) const = default;
};

// The box that is all of a tensor of that shape.
Box whole_box(const std::vector<int64_t>& shape);
// How many elements a box of that extent has; a scalar has 1. Requires: a product below 2^63.
int64_t num_elements(const std::vector<int64_t>& extent);
bool lies_within(const Box& box, const std::vector<int64_t>& shape);
// The boxes that neighbouring elements of a tensor of that shape fill, in order, when elements are
// counted row by row; at most two for each dimension.
std::vector<Box> boxes_of_range(const std::vector<int64_t>& shape, const Slice& range);
// What two boxes of one tensor share; nothing if that has no elements.
std::optional<Box> intersection(const Box& a, const Box& b);

// As Python writes a slice, without the last dimensions that it has whole: "[3:4]", "[:, 0:64]"; ""
// of a whole tensor.
std::string slice_text(const Box& box, const std::vector<int64_t>& shape);

// What keeps the boxes, which lie within the shape, from holding each element exactly once, such as
// "[0:2] and [1:3] overlap"; "" if nothing does.
std::string partition_problem(const std::vector<int64_t>& shape, std::span<const Box> boxes);

}  // namespace switchyard
