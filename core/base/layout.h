#pragma once
// How ranks are arranged along the axes of parallelism, and where each of them stands. These are
// integers and no communicators, so that what a rank holds of a model of any size can be computed
// anywhere, without tensors and without the other ranks.

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>

namespace switchyard {

enum class Axis : uint8_t {
  kData,      // ranks that see different tokens
  kTensor,    // ranks that see the same tokens, and hold each matrix together
  kPipeline,  // ranks that see the same tokens one after the other, and hold the layers together
  kExpert,    // ranks that together hold all experts of their layers
  kExpertTensor,  // ranks that hold each expert together
  kExpertData,    // ranks that hold the same experts
};
constexpr std::array kAllAxes = {Axis::kData,   Axis::kTensor,       Axis::kPipeline,
                                 Axis::kExpert, Axis::kExpertTensor, Axis::kExpertData};

// "data"; "see different tokens".
struct AxisWords {
  const char *name, *meaning;
};
const AxisWords& words_of(Axis axis);

// A rank's number among the ranks of an axis.
struct Place {
  int index = 0, size = 1;
};

struct Slice {
  int64_t begin = 0, end = 0;

  int64_t size() const { return end - begin; }
  bool contains(int64_t i) const { return begin <= i && i < end; }
};

// What the rank at `place` gets when `count` things are dealt in order. Throws CheckError unless
// they can be dealt evenly.
Slice share_of(int64_t count, const Place& place);

// A rank's places; on an axis that was not set it is alone.
class Layout {
 public:
  const Place& operator[](Axis axis) const { return places_[static_cast<size_t>(axis)]; }
  Place& operator[](Axis axis) { return places_[static_cast<size_t>(axis)]; }

 private:
  std::array<Place, kAllAxes.size()> places_;
};

// The degrees that can be chosen; those of the other axes follow from them.
struct MeshDegrees {
  int data = 1, tensor = 1, pipeline = 1, expert = 1, expert_tensor = 1;
};

// How many ranks stand along each axis, and which. Layers are dealt over the pipeline axis: each of
// its places is a stage of as many ranks, and these are seen in two ways ("folding"). Other layers
// than experts are replicated over the data axis and cut over the tensor axis. Experts are dealt
// over the expert axis, cut over the expert-tensor axis and replicated over the rest, the
// expert-data axis:
//     stage = ranks / pipeline = data * tensor = expert_data * expert * expert_tensor
//     rank in its stage = data_index * tensor + tensor_index
//                       = (expert_data_index * expert + expert_index) * expert_tensor
//                         + expert_tensor_index
//     rank = pipeline_index * stage + rank in its stage
// so that the members of a tensor group, and those of an expert group, are neighbours, where the
// network is fastest, and stages, which send each other least, are furthest apart.
class MeshShape {
 public:
  // Throws CheckError unless degrees.expert times degrees.expert_tensor divides a stage's ranks.
  explicit MeshShape(const MeshDegrees& degrees = {});

  int ranks() const { return ranks_; }
  int size(Axis axis) const { return extent(axis).size; }
  Layout layout(int rank) const;
  // The ranks that differ in their place on `axis` alone are a group; its number, from 0.
  int group_along(Axis axis, int rank) const;

 private:
  // Neighbours on an axis are `stride` ranks apart.
  struct Extent {
    int size = 1, stride = 1;
  };
  const Extent& extent(Axis axis) const { return extents_[static_cast<size_t>(axis)]; }

  int ranks_;
  std::array<Extent, kAllAxes.size()> extents_;
};

class AxisSet {
 public:
  AxisSet() = default;
  AxisSet(std::initializer_list<Axis> axes) {
    for (const Axis axis : axes) insert(axis);
  }
  void insert(Axis axis) { bits_ |= 1u << static_cast<unsigned>(axis); }
  void erase(Axis axis) { bits_ &= ~(1u << static_cast<unsigned>(axis)); }
  bool contains(Axis axis) const { return (bits_ >> static_cast<unsigned>(axis) & 1) != 0; }
  // An order without a meaning, for keys: data alone comes before the axes of experts.
  auto operator<=>(const AxisSet&) const = default;

 private:
  uint32_t bits_ = 0;
};

// The axes that several ranks stand along, without expert-data where no axis deals experts.
AxisSet divided_axes(const MeshShape& shape);
// Their degrees, "data 4, expert 2, expert_data 2"; "" if there are none.
std::string degrees_text(const MeshShape& shape);

}  // namespace switchyard
