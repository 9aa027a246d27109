#include "core/data/table.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>
#include <set>

#include <fmt/ranges.h>

#include "core/base/errors.h"
#include "core/base/fingerprint.h"
#include "core/base/foreign_text.h"
#include "core/base/random.h"
#include "core/data/csv.h"
#include "core/data/sampler.h"
#include "core/io/file_system.h"

namespace switchyard {
namespace {

constexpr uint64_t kLargestFile = uint64_t{1} << 28;  // bytes

size_t column_of(const CsvRow& header, const std::string& name) {
  const auto found = std::ranges::find(header.cells, name);
  if (found == header.cells.end())
    throw DataError(fmt::format("{}: has no column {}; its columns are {}", header.where,
                                in_quotes(name),
                                in_quotes(fmt::format("{}", fmt::join(header.cells, ", ")), 1000)));
  return static_cast<size_t>(found - header.cells.begin());
}

void check_names(const char* what, const std::vector<std::string>& names) {
  if (names.empty() || std::set(names.begin(), names.end()).size() != names.size())
    throw ConfigError(
        fmt::format("data.table.{} ({}) must name at least one, and none twice; correct the list",
                    what, fmt::join(names, ", ")));
}

uint64_t fingerprint_of(const Table& table) {
  Fingerprint print;
  print.add(static_cast<uint64_t>(table.num_features));
  for (const float value : table.features) print.add(std::bit_cast<uint32_t>(value));
  for (const int32_t label : table.labels) print.add(static_cast<uint64_t>(label));
  for (const std::string& group : table.groups) print.add(group).add(uint64_t{group.size()});
  return print.value();
}

// Each class must be there: a misspelt one would silently be learnt as never.
void check_classes(const std::string& path, const Table& table,
                   const std::vector<std::string>& classes) {
  for (size_t id = 0; id < classes.size(); ++id) {
    if (std::ranges::find(table.labels, static_cast<int32_t>(id)) == table.labels.end())
      throw DataError(fmt::format("{}: no row has the class {} of data.table.classes", path,
                                  in_quotes(classes[id])));
  }
}

}  // namespace

Table read_table(const std::string& path, const TableColumns& columns) {
  check_names("features", columns.features);
  check_names("classes", columns.classes);
  const std::string text = read_text_file(path, kLargestFile);
  const std::vector<CsvRow> rows = csv_rows(path, text);
  std::vector<size_t> features;
  for (const std::string& name : columns.features) features.push_back(column_of(rows[0], name));
  const size_t label = column_of(rows[0], columns.label), group = column_of(rows[0], columns.group);
  Table table;
  table.num_features = static_cast<int64_t>(features.size());
  table.num_classes = static_cast<int64_t>(columns.classes.size());
  for (size_t i = 1; i < rows.size(); ++i) {
    const auto found = std::ranges::find(columns.classes, rows[i].cells[label]);
    if (found == columns.classes.end()) continue;
    for (const size_t column : features)
      table.features.push_back(csv_number<float>(rows[i], column));
    table.labels.push_back(static_cast<int32_t>(found - columns.classes.begin()));
    table.groups.emplace_back(rows[i].cells[group]);
  }
  check_classes(path, table, columns.classes);
  table.fingerprint = fingerprint_of(table);
  return table;
}

TableSplit split_by_group(const Table& table, int64_t train_groups, int64_t test_groups,
                          uint64_t seed) {
  const std::set<std::string> distinct(table.groups.begin(), table.groups.end());
  const std::vector<std::string> names(distinct.begin(), distinct.end());
  const auto count = static_cast<int64_t>(names.size());
  if (train_groups + test_groups > count)
    throw DataError(
        fmt::format("data.table.train_groups ({}) and test_groups ({}) need {} groups, the table "
                    "has {}; lower one of them",
                    train_groups, test_groups, train_groups + test_groups, count));
  const Random random(seed, Stream::kShuffle);
  TableSplit split;
  for (int64_t i = 0; i < table.num_cases(); ++i) {
    const auto name = std::ranges::lower_bound(names, table.groups[static_cast<size_t>(i)]);
    const auto place = static_cast<int64_t>(
        permute(static_cast<uint64_t>(name - names.begin()), static_cast<uint64_t>(count), random));
    if (place < train_groups)
      split.train.push_back(static_cast<int32_t>(i));
    else if (place < train_groups + test_groups)
      split.test.push_back(static_cast<int32_t>(i));
  }
  return split;
}

void standardize(Table& table, const std::vector<int32_t>& cases) {
  const auto width = static_cast<size_t>(table.num_features);
  for (size_t feature = 0; feature < width; ++feature) {
    const auto value_of = [&](int32_t i) {
      return double{table.features[static_cast<size_t>(i) * width + feature]};
    };
    double sum = 0, squares = 0;
    for (const int32_t i : cases) sum += value_of(i);
    const double mean = sum / static_cast<double>(cases.size());
    for (const int32_t i : cases) squares += std::pow(value_of(i) - mean, 2);
    const double deviation = std::sqrt(squares / static_cast<double>(cases.size()));
    if (!(deviation > 0))
      throw DataError(
          fmt::format("data.table.features[{}] is the same in all {} training cases; leave it out",
                      feature, cases.size()));
    for (size_t i = feature; i < table.features.size(); i += width)
      table.features[i] = static_cast<float>((table.features[i] - mean) / deviation);
  }
}

CaseSource::CaseSource(std::string name, std::vector<int32_t> cases, uint64_t table_fingerprint)
    : name_(std::move(name)), cases_(std::move(cases)), table_fingerprint_(table_fingerprint) {}

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
