#include "core/data/case_source.h"

#include <algorithm>
#include <numeric>

#include "core/base/errors.h"
#include "core/base/fingerprint.h"

namespace switchyard {

CaseSource::CaseSource(std::string name, std::vector<int32_t> cases, int64_t num_cases,
                       uint64_t table_fingerprint)
    : name_(std::move(name)),
      cases_(std::move(cases)),
      num_cases_(num_cases),
      table_fingerprint_(table_fingerprint) {}

void CaseSource::read(int64_t first, std::span<int32_t> tokens) const {
  const auto size = static_cast<int64_t>(tokens.size());
  SY_CHECK(first >= 0 && first + size <= num_tokens(), "cases {} to {} of {}", first, first + size,
           num_tokens());
  std::copy_n(cases_.begin() + first, tokens.size(), tokens.begin());
}

void CaseSource::segments(int64_t, std::span<int32_t> numbers) const {
  std::iota(numbers.begin(), numbers.end(), 0);  // each case stands for itself
}

uint64_t CaseSource::fingerprint() const {
  Fingerprint print;
  print.add(table_fingerprint_);
  for (const int32_t number : cases_) print.add(static_cast<uint64_t>(number));
  return print.value();
}

}  // namespace switchyard
