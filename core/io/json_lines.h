#pragma once
// Records as JSON lines: one object of numbers, texts and lists of numbers per line, keys in the
// order given. The same values give the same bytes, so that a resumed run's file can be compared
// with an uninterrupted run's.

#include <cstdint>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "core/io/best_effort_file.h"
#include "core/io/file_system.h"

namespace switchyard {

using JsonLinesValue = std::variant<int64_t, double, std::string, std::vector<double>>;
using JsonLinesRecord = std::vector<std::pair<std::string, JsonLinesValue>>;

// With its newline. Numbers have the fewest digits that read back as the same number; NaN and
// infinity, which JSON lacks, become null.
[[nodiscard]] std::string to_json_line(const JsonLinesRecord& record);

// Appends to a file, which others may read meanwhile. A write that fails does not throw (see
// BestEffortFile).
class JsonLinesWriter {
 public:
  explicit JsonLinesWriter(std::string path) : file_(std::move(path)) {}

  void write(const JsonLinesRecord& record) { file_.append(to_json_line(record)); }

 private:
  BestEffortFile file_;
};

// Takes a file back to `step` before a resumed run appends to it: atomically drops the lines whose
// "step" is larger, and a last line that was cut off in the middle. Lines without "step" stay; an
// absent file is fine. Requires: no writer has it open.
void drop_json_lines_after(const FileSystem& files, const std::string& path, int64_t step);

}  // namespace switchyard
