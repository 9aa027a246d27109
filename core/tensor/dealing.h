#pragma once
// How the flat buffers of parameters are dealt over the ranks that hold the same parameters, when
// each keeps master weights and optimizer state for its share alone: stage 1 of Rajbhandari et al.
// (2020), "ZeRO: memory optimizations toward training trillion parameter models". Integers alone,
// so that what a rank keeps can be computed without being that rank.

#include <cstdint>
#include <span>
#include <vector>

#include "core/base/layout.h"

namespace switchyard {

enum class Dealing : uint8_t {
  kWhole,       // every rank keeps all of it
  kParameters,  // each parameter has one owner
  kElements,    // all ranks own equally much, wherever parameters begin and end
};

// Squares of a flat gradient are summed by blocks of so many elements, and these sums in order: a
// block whose elements lie on one rank has the same sum however the rest is dealt.
constexpr int64_t kSquaresBlock = 1 << 16;
// Parameters begin, and shares of elements begin and end, at multiples of this: a 64-byte line of
// float32, and more of the wider types. Vector kernels then meet the same full vectors.
constexpr int64_t kAlignElements = 32;

// The deal of one group's flat buffers.
struct Deal {
  Dealing dealing = Dealing::kWhole;
  Axis axis = Axis::kData;     // over which they are dealt
  Place place;                 // this rank's on it
  int64_t count = 0;           // elements of a buffer: the parameters and padding, which is zero
  std::vector<Slice> buckets;  // what is reduced in one operation: together the buffer, in order
  std::vector<Slice> owners;   // kParameters: what each rank owns of the buffer, in order

  // What a rank owns of a bucket; in the order of ranks, these are the bucket.
  Slice share(const Slice& bucket, int rank) const;
  Slice owned(const Slice& bucket) const { return share(bucket, place.index); }
  // What this rank owns of the buffer: in order, neighbours as one.
  std::vector<Slice> owned() const;
  // Whether all shares of the bucket are whole blocks of squares. Then a rank needs the gradient of
  // its share alone; else each needs all of the bucket's for the norm.
  bool is_scattered(const Slice& bucket) const;
};

// `sizes` are those of the parameters in their order, each a multiple of kAlignElements. Elements
// are dealt bucket by bucket. A parameter's owner is the one in whose equal share its middle lies,
// so that nobody owns more than that share and the largest parameter.
Deal deal(Dealing dealing, Axis axis, const Place& place, std::span<const int64_t> sizes);

}  // namespace switchyard
