#pragma once
// Where weights come from: a place that has tensors by name and gives parts of them. A step of a
// run is one (trainer/checkpoint/step_source.h).

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/base/box.h"
#include "core/base/dtype.h"

namespace switchyard {

class TensorSource {
 public:
  struct Description {
    DType dtype;
    std::vector<int64_t> shape;
  };

  virtual ~TensorSource() = default;

  virtual std::vector<std::string> names() const = 0;
  // Requires: one of names().
  virtual Description describe(const std::string& name) const = 0;
  // Fills `out` with the box of the tensor, row-major, as `dtype`; see can_convert(). Reads no more
  // of the files than the pieces that the box touches. Throws CheckpointError, which names the
  // tensor, if those are damaged. Requires: a box within the tensor's shape.
  virtual void read(const std::string& name, const Box& box, DType dtype,
                    std::span<std::byte> out) = 0;
};

// "F32 [4, 64]"
std::string text_of(const TensorSource::Description& tensor);

// A box of a tensor and where its elements lie, row-major.
struct BoxedBytes {
  DType dtype;
  const Box& box;
  std::span<const std::byte> bytes;
};

// Copies the elements that both boxes have to `out`, which holds `box` row-major as `dtype`.
void copy_common(const BoxedBytes& from, const Box& box, DType dtype, std::span<std::byte> out);

}  // namespace switchyard
