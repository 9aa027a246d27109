#pragma once
// Rows of comma-separated values, without quotes.

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace switchyard {

// One line, cut at its commas, without spaces around the values. The cells point into the text.
struct CsvRow {
  std::string where;  // "file:line", for messages
  std::vector<std::string_view> cells;
};

// The rows of a file's text, which must outlive them; empty lines are skipped. DataError with file
// and line for a double quote and for a row of another length than the first, and for no row.
std::vector<CsvRow> csv_rows(const std::string& path, std::string_view text);

// A cell as a number, float or double. DataError unless it is a finite one.
template <typename T>
T csv_number(const CsvRow& row, size_t column);

}  // namespace switchyard
