#include "core/base/box.h"

#include <algorithm>
#include <functional>
#include <numeric>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace switchyard {
namespace {

int64_t end_of(const Box& box, size_t dim) { return box.offset[dim] + box.extent[dim]; }

// Two boxes that share elements. Sorted by their first dimension, a box is compared with those that
// begin before its end.
std::string overlap_problem(const std::vector<int64_t>& shape, std::vector<Box> boxes) {
  if (shape.empty()) return boxes.size() > 1 ? "a scalar is there more than once" : "";
  std::ranges::sort(boxes, {}, &Box::offset);
  for (size_t i = 0; i < boxes.size(); ++i)
    for (size_t j = i + 1; j < boxes.size() && boxes[j].offset[0] < end_of(boxes[i], 0); ++j)
      if (intersection(boxes[i], boxes[j]))
        return fmt::format("{} and {} overlap", slice_text(boxes[i], shape),
                           slice_text(boxes[j], shape));
  return "";
}

// What boxes that do not overlap leave out. Rows differ only where a box ends, so that a row at
// each end tells.
std::string gap_problem(const std::vector<int64_t>& shape, std::span<const Box> boxes) {
  int64_t held = 0;
  for (const Box& box : boxes) held += num_elements(box.extent);
  const int64_t all = num_elements(shape);
  if (held == all) return "";
  if (shape.empty()) return "the scalar is not there";
  std::set<int64_t> rows = {0};
  for (const Box& box : boxes) rows.insert(end_of(box, 0));
  for (const int64_t row : rows) {
    int64_t in_row = 0;
    for (const Box& box : boxes)
      if (box.offset[0] <= row && row < end_of(box, 0))
        in_row += num_elements(box.extent) / box.extent[0];
    if (row < shape[0] && in_row < all / shape[0])
      return fmt::format("{} of {} numbers are not there, the first of them in [{}]", all - held,
                         all, row);
  }
  return "";
}

// Adds the boxes of a range of the elements that `box` has in its place, which is a single index in
// each dimension before `dim`, and all of the others.
void add_boxes(const Box& box, size_t dim, const Slice& range, std::vector<Box>& boxes) {
  if (range.size() == 0) return;
  if (range.size() == num_elements(box.extent)) {
    boxes.push_back(box);
    return;
  }
  const int64_t row = num_elements(box.extent) / box.extent[dim];  // elements
  const auto add_rows = [&](int64_t begin, int64_t end, const Slice& within) {
    Box rows = box;
    rows.offset[dim] = begin;
    rows.extent[dim] = end - begin;
    add_boxes(rows, dim + 1, within, boxes);
  };
  const int64_t first = range.begin / row, last = range.end / row;
  if (first == last) return add_rows(first, first + 1, {range.begin % row, range.end % row});
  const int64_t begin = range.begin % row == 0 ? first : first + 1;
  if (begin > first) add_rows(first, begin, {range.begin % row, row});
  if (last > begin) add_rows(begin, last, {0, (last - begin) * row});
  if (range.end % row > 0) add_rows(last, last + 1, {0, range.end % row});
}

}  // namespace

Box whole_box(const std::vector<int64_t>& shape) {
  return {std::vector<int64_t>(shape.size()), shape};
}

int64_t num_elements(const std::vector<int64_t>& extent) {
  return std::accumulate(extent.begin(), extent.end(), int64_t{1}, std::multiplies<>());
}

bool lies_within(const Box& box, const std::vector<int64_t>& shape) {
  if (box.offset.size() != shape.size() || box.extent.size() != shape.size()) return false;
  for (size_t dim = 0; dim < shape.size(); ++dim) {
    const int64_t offset = box.offset[dim], extent = box.extent[dim];
    if (offset < 0 || extent < 0 || extent > shape[dim] || offset > shape[dim] - extent)
      return false;
  }
  return true;
}

std::vector<Box> boxes_of_range(const std::vector<int64_t>& shape, const Slice& range) {
  std::vector<Box> boxes;
  add_boxes(whole_box(shape), 0, range, boxes);
  return boxes;
}

std::optional<Box> intersection(const Box& a, const Box& b) {
  Box common;
  for (size_t dim = 0; dim < a.offset.size(); ++dim) {
    common.offset.push_back(std::max(a.offset[dim], b.offset[dim]));
    common.extent.push_back(std::min(end_of(a, dim), end_of(b, dim)) - common.offset[dim]);
    if (common.extent[dim] <= 0) return std::nullopt;
  }
  return common;
}

std::string slice_text(const Box& box, const std::vector<int64_t>& shape) {
  std::vector<std::string> ranges;
  size_t last = 0;  // dimensions up to the last that is cut
  for (size_t dim = 0; dim < shape.size(); ++dim) {
    const bool is_whole = box.extent[dim] == shape[dim];
    ranges.push_back(is_whole ? ":" : fmt::format("{}:{}", box.offset[dim], end_of(box, dim)));
    if (!is_whole) last = dim + 1;
  }
  ranges.resize(last);
  return ranges.empty() ? "" : fmt::format("[{}]", fmt::join(ranges, ", "));
}

std::string partition_problem(const std::vector<int64_t>& shape, std::span<const Box> boxes) {
  std::string problem = overlap_problem(shape, {boxes.begin(), boxes.end()});
  return problem.empty() ? gap_problem(shape, boxes) : problem;
}

}  // namespace switchyard
