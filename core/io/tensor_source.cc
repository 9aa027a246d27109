#include "core/io/tensor_source.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/base/errors.h"

namespace switchyard {
namespace {

// The number of the element at `place` of the tensor among those of the box, row-major.
int64_t index_in(const Box& box, const std::vector<int64_t>& place) {
  int64_t index = 0;
  for (size_t dim = 0; dim < place.size(); ++dim)
    index = index * box.extent[dim] + place[dim] - box.offset[dim];
  return index;
}

// The first dimension of the part that lies in one run in both boxes: of the dimensions behind it
// both have no more than the common part.
size_t first_of_run(const Box& common, const Box& a, const Box& b) {
  size_t dim = common.extent.size();
  while (dim > 0) {
    --dim;
    if (common.extent[dim] != a.extent[dim] || common.extent[dim] != b.extent[dim]) break;
  }
  return dim;
}

// Moves to the next place of the box in its first `dims` dimensions; false behind the last.
bool advance(const Box& box, size_t dims, std::vector<int64_t>& place) {
  for (size_t dim = dims; dim-- > 0;) {
    if (++place[dim] < box.offset[dim] + box.extent[dim]) return true;
    place[dim] = box.offset[dim];
  }
  return false;
}

}  // namespace

std::string text_of(const TensorSource::Description& tensor) {
  return fmt::format("{} [{}]", name_of(tensor.dtype), fmt::join(tensor.shape, ", "));
}

void copy_common(const BoxedBytes& from, const Box& box, DType dtype, std::span<std::byte> out) {
  const auto element = [](DType type) { return static_cast<int64_t>(size_of(type)); };
  SY_CHECK(std::ssize(from.bytes) == num_elements(from.box.extent) * element(from.dtype) &&
               std::ssize(out) == num_elements(box.extent) * element(dtype),
           "{} and {} bytes are not what their boxes hold", from.bytes.size(), out.size());
  const auto common = intersection(from.box, box);
  if (!common) return;
  const size_t outer = first_of_run(*common, from.box, box);
  int64_t run = 1;
  for (size_t dim = outer; dim < common->extent.size(); ++dim) run *= common->extent[dim];
  std::vector<int64_t> place = common->offset;
  do {
    convert(from.dtype, from.bytes.data() + index_in(from.box, place) * element(from.dtype), dtype,
            out.data() + index_in(box, place) * element(dtype), run);
  } while (advance(*common, outer, place));
}

}  // namespace switchyard
