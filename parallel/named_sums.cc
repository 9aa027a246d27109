#include "parallel/named_sums.h"

#include <algorithm>
#include <span>
#include <sstream>
#include <vector>

#include "core/base/errors.h"
#include "core/base/fingerprint.h"

namespace switchyard::parallel {
namespace {

// **Collective.**
void check_names(const NamedSums& sums, Communicator& ranks, const char* what) {
  std::string own;
  for (const auto& [name, sum] : sums) own += name + ' ';
  const auto print = static_cast<int64_t>(Fingerprint().add(own).value() >> 1);
  int64_t ends[] = {print, -print};  // the greatest, and the least with a minus
  ranks.all_reduce(std::span<int64_t>(ends), ReduceOp::kMax, what);
  if (ends[0] == -ends[1]) return;
  const std::vector<std::string> names = ranks.all_gather_text(own, what);
  for (int rank = 1; rank < ranks.size(); ++rank) {
    SY_CHECK(names[rank] == names[0],
             "'{}' of {} adds up numbers by name, but rank {} of the group has other names than "
             "rank 0: {}in place of {}",
             what, ranks.name(), rank, names[rank], names[0]);
  }
}

}  // namespace

double Sum::mean() const { return total / std::max(1.0, weight); }

Sum& Sum::operator+=(const Sum& other) {
  total += other.total;
  weight += other.weight;
  return *this;
}

void all_reduce(NamedSums& sums, Communicator& ranks, const char* what) {
  check_names(sums, ranks, what);
  std::vector<double> numbers;
  for (const auto& [name, sum] : sums) numbers.insert(numbers.end(), {sum.total, sum.weight});
  ranks.all_reduce(std::span(numbers), ReduceOp::kSum, what);
  size_t next = 0;
  for (auto& [name, sum] : sums) {
    sum = {numbers[next], numbers[next + 1]};
    next += 2;
  }
}

void all_reduce_union(NamedSums& sums, Communicator& ranks, const char* what) {
  if (ranks.size() == 1) return;
  std::string own;
  for (const auto& [name, sum] : sums) own += name + '\n';
  for (const std::string& names : ranks.all_gather_text(own, what)) {
    std::istringstream lines(names);
    for (std::string name; std::getline(lines, name);) sums.try_emplace(name);
  }
  all_reduce(sums, ranks, what);
}

Sum take(NamedSums& sums, const std::string& name) {
  const auto row = sums.extract(name);
  return row.empty() ? Sum() : row.mapped();
}

}  // namespace switchyard::parallel
