#pragma once
// A side of a table's split as a source: its "tokens" are case numbers.

#include <vector>

#include "core/data/token_source.h"

namespace switchyard {

class CaseSource final : public TokenSource {
 public:
  // `cases` are numbers below num_cases; table_fingerprint tells which table they number.
  CaseSource(std::string name, std::vector<int32_t> cases, int64_t num_cases,
             uint64_t table_fingerprint);

  std::string name() const override { return name_; }
  int64_t num_tokens() const override { return static_cast<int64_t>(cases_.size()); }
  int64_t num_sampled() const override { return num_tokens(); }
  int64_t vocab_size() const override { return num_cases_; }
  void read(int64_t first, std::span<int32_t> tokens) const override;
  void segments(int64_t first, std::span<int32_t> numbers) const override;
  uint64_t fingerprint() const override;

 private:
  std::string name_;
  std::vector<int32_t> cases_;
  int64_t num_cases_;
  uint64_t table_fingerprint_;
};

}  // namespace switchyard
