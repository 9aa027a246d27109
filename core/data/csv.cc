#include "core/data/csv.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include <fmt/format.h>

#include "core/base/errors.h"
#include "core/base/foreign_text.h"

namespace switchyard {
namespace {

std::vector<std::string_view> cut(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(separator, begin), text.size());
    parts.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

std::string_view trimmed(std::string_view text) {
  constexpr const char* kBlank = " \t\r";
  const size_t begin = std::min(text.find_first_not_of(kBlank), text.size());
  return text.substr(begin, text.find_last_not_of(kBlank) + 1 - begin);
}

}  // namespace

std::vector<CsvRow> csv_rows(const std::string& path, std::string_view text) {
  std::vector<CsvRow> rows;
  int64_t line_number = 0;
  for (const std::string_view line : cut(text, '\n')) {
    ++line_number;
    if (trimmed(line).empty()) continue;
    CsvRow row{fmt::format("{}:{}", path, line_number), cut(line, ',')};
    std::ranges::transform(row.cells, row.cells.begin(), trimmed);
    if (line.find('"') != std::string_view::npos)
      throw DataError(
          fmt::format("{}: holds a double quote; expected plain values between commas", row.where));
    if (!rows.empty() && row.cells.size() != rows[0].cells.size())
      throw DataError(fmt::format("{}: {} values, expected {} as in the first line", row.where,
                                  row.cells.size(), rows[0].cells.size()));
    rows.push_back(std::move(row));
  }
  if (rows.empty())
    throw DataError(fmt::format("{}: is empty; expected lines of values between commas", path));
  return rows;
}

template <typename T>
T csv_number(const CsvRow& row, size_t column) {
  const std::string_view cell = row.cells[column];
  T value = 0;
  const auto [end, error] = std::from_chars(cell.data(), cell.data() + cell.size(), value);
  if (error != std::errc() || end != cell.data() + cell.size() || !std::isfinite(value))
    throw DataError(fmt::format("{}: column {} is {}, expected a finite number", row.where,
                                column + 1, in_quotes(cell)));
  return value;
}
template float csv_number(const CsvRow&, size_t);
template double csv_number(const CsvRow&, size_t);

}  // namespace switchyard
