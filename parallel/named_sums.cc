#include "parallel/named_sums.h"

#include <algorithm>
#include <span>
#include <vector>

namespace switchyard::parallel {

double Sum::mean() const { return total / std::max(1.0, weight); }

Sum& Sum::operator+=(const Sum& other) {
  total += other.total;
  weight += other.weight;
  return *this;
}

void all_reduce(NamedSums& sums, Communicator& ranks, const char* what) {
  std::vector<double> numbers;
  for (const auto& [name, sum] : sums) numbers.insert(numbers.end(), {sum.total, sum.weight});
  ranks.all_reduce(std::span(numbers), ReduceOp::kSum, what);
  size_t next = 0;
  for (auto& [name, sum] : sums) {
    sum = {numbers[next], numbers[next + 1]};
    next += 2;
  }
}

Sum take(NamedSums& sums, const std::string& name) {
  const auto row = sums.extract(name);
  return row.empty() ? Sum() : row.mapped();
}

}  // namespace switchyard::parallel
