#pragma once
// Classification cases from a CSV file: numbers as features, a class, and a group (a speaker) whose
// cases must not be on both sides of a split.

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/data/token_source.h"

namespace switchyard {

// Which columns of the file mean what.
struct TableColumns {
  std::vector<std::string> features;
  std::string label;
  std::vector<std::string> classes;  // labels, in order of their id; rows with others are left out
  std::string group;
};

struct Table {
  int64_t num_features = 0, num_classes = 0;
  std::vector<float> features;      // [cases, num_features]
  std::vector<int32_t> labels;      // [cases], in [0, num_classes)
  std::vector<std::string> groups;  // [cases]
  uint64_t fingerprint = 0;         // of the cases

  int64_t num_cases() const { return static_cast<int64_t>(labels.size()); }
};

// Reads a file of comma-separated values whose first line names the columns. DataError with file
// and line for a missing column, a ragged row, quotes, or a feature that is not a finite number;
// for a class without a case. ConfigError for none or repeated columns or classes.
Table read_table(const std::string& path, const TableColumns& columns);

// Case numbers of both sides, in the file's order.
struct TableSplit {
  std::vector<int32_t> train, test;
};

// train_groups and test_groups groups, drawn by `seed`; the rest is left out. DataError if there
// are fewer groups.
TableSplit split_by_group(const Table& table, int64_t train_groups, int64_t test_groups,
                          uint64_t seed);

// Shifts and scales each feature to mean 0 and variance 1 over the given cases. DataError for a
// feature that is constant over them.
void standardize(Table& table, const std::vector<int32_t>& cases);

// A side of a table's split as a source: its "tokens" are case numbers.
class CaseSource final : public TokenSource {
 public:
  // table_fingerprint tells which table the cases are of.
  CaseSource(std::string name, std::vector<int32_t> cases, uint64_t table_fingerprint);

  std::string name() const override { return name_; }
  int64_t num_tokens() const override { return static_cast<int64_t>(cases_.size()); }
  int64_t num_sampled() const override { return num_tokens(); }
  void read(int64_t first, std::span<int32_t> tokens) const override;
  void segments(int64_t first, std::span<int32_t> numbers) const override;
  uint64_t fingerprint() const override;

 private:
  std::string name_;
  std::vector<int32_t> cases_;
  uint64_t table_fingerprint_;
};

}  // namespace switchyard
