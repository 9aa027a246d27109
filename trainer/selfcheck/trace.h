#pragma once
// The readings of one rank alone, and how far those of a mesh are from them. Each rank compares the
// pieces that it holds, so that every copy of a replicated number is looked at, and nothing large
// travels.

#include <map>
#include <string>
#include <tuple>

#include "trainer/selfcheck/readings.h"

namespace switchyard::trainer {

class Trace {
 public:
  struct Entry {
    at::Tensor value;    // whole
    int64_t origin = 0;  // what its first row is called: routing counts tokens through all steps
    // What differences are relative to: the largest magnitude of the tensor, and its L2 norm; each
    // at least a thousandth of the greatest of the quantity in the step, since a gradient that is
    // zero but for rounding has no size of its own.
    double largest = 0, norm = 0;
  };

  // Of a run on one rank, which holds everything. NumericsError for what is not finite.
  void record(const Reading& reading);
  // Call once, when all is recorded.
  void finish();

  const Entry& at(const Reading& reading) const;

 private:
  using Key = std::tuple<Quantity, int64_t, std::string>;  // step, name
  std::map<Key, Entry> entries_;
};

// The worst of some tensors.
struct Worst {
  double error = -1;  // below 0: there was no tensor
  std::string name;

  // NaN counts as the greatest number.
  void take(double error, const std::string& name);
};

// Of one quantity in one step, over all tensors and ranks.
struct Difference {
  Worst element = {};  // largest difference of a tensor's elements, over Entry::largest
  Worst norm = {};     // L2 norm of the differences of a rank's pieces, over Entry::norm
  int64_t differing = 0, decisions = 0;  // routing: slots
};
using Differences = std::map<std::pair<Quantity, int64_t>, Difference>;  // by quantity and step

void compare(const Reading& reading, const Trace& trace, Differences& differences);

// **Collective.** Every rank gets the worst of all.
Differences merge(const Differences& own, parallel::Communicator& world);

}  // namespace switchyard::trainer
