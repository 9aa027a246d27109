#pragma once
// Numbers that add up over micro-batches and ranks, by name: what a pass through a model reports
// beside its loss. A model that adds to a new name finds it in the metrics; nothing else changes.

#include <functional>
#include <map>
#include <string>

#include "parallel/communicator.h"

namespace switchyard::parallel {

struct Sum {
  double total = 0;
  double weight = 0;  // how many items the total is over; 0: the total is the value

  double mean() const;
  Sum& operator+=(const Sum& other);
};

// A map, so that every rank has the names in the same order.
using NamedSums = std::map<std::string, Sum, std::less<>>;

// **Collective.** Every rank gets the sums over `ranks`. Throws CheckError on every rank unless all
// of them have the same names.
void all_reduce(NamedSums& sums, Communicator& ranks, const char* what);

// **Collective.** The same where a rank may lack a name that others have: it brings nothing there.
void all_reduce_union(NamedSums& sums, Communicator& ranks, const char* what);

// The sum of that name, which leaves the table; zero where there is none.
Sum take(NamedSums& sums, const std::string& name);

}  // namespace switchyard::parallel
