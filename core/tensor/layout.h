#pragma once
// Where a rank stands on each axis of parallelism. These are integers and no communicators, so that
// what a rank holds of a model of any size can be computed anywhere, without tensors.

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>

namespace switchyard {

enum class Axis : uint8_t {
  kData,        // ranks that see different tokens
  kExpert,      // ranks that together hold all experts
  kExpertData,  // ranks that hold the same experts and see different tokens
};
constexpr std::array kAllAxes = {Axis::kData, Axis::kExpert, Axis::kExpertData};

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

class AxisSet {
 public:
  AxisSet() = default;
  AxisSet(std::initializer_list<Axis> axes) {
    for (const Axis axis : axes) insert(axis);
  }
  void insert(Axis axis) { bits_ |= 1u << static_cast<unsigned>(axis); }
  bool contains(Axis axis) const { return (bits_ >> static_cast<unsigned>(axis) & 1) != 0; }
  // An order without a meaning, for keys: data alone comes before the axes of experts.
  auto operator<=>(const AxisSet&) const = default;

 private:
  uint32_t bits_ = 0;
};

}  // namespace switchyard
