#include "core/io/json_lines.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <string_view>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "core/base/errors.h"
#include "core/base/log.h"
#include "core/io/bytes.h"
#include "core/io/file.h"
#include "core/io/json.h"

namespace switchyard {
namespace {

using nlohmann::json;

std::string json_text(const std::string& text) {
  return json(text).dump(-1, ' ', false, json::error_handler_t::replace);
}

struct ValueText {
  std::string operator()(int64_t value) const { return fmt::format("{}", value); }
  std::string operator()(double value) const {
    return std::isfinite(value) ? fmt::format("{}", value) : "null";
  }
  std::string operator()(const std::string& value) const { return json_text(value); }
  std::string operator()(const std::vector<double>& values) const {
    std::string text;
    for (const double value : values) text += (text.empty() ? "" : ", ") + (*this)(value);
    return "[" + text + "]";
  }
};

// `line` with its newline, if it has one.
bool belongs(std::string_view line, const std::string& where, int64_t step) {
  if (!line.ends_with('\n')) return false;
  try {
    const json record = parse_json(line, where, raise<DataError>);
    if (!record.is_object()) return true;
    const auto found = record.find("step");
    return found == record.end() || !found->is_number_integer() || found->get<int64_t>() <= step;
  } catch (const DataError& error) {
    warn("{}; the line is dropped", error.what());
    return false;
  }
}

}  // namespace

std::string to_json_line(const JsonLinesRecord& record) {
  std::string line = "{";
  for (const auto& [key, value] : record) {
    if (line.size() > 1) line += ", ";
    line += json_text(key) + ": " + std::visit(ValueText{}, value);
  }
  return line + "}\n";
}

void drop_json_lines_after(const FileSystem& files, const std::string& path, int64_t step) {
  require_regular_or_absent(path);
  if (!std::filesystem::exists(path)) return;
  const MappedFile file(path, MappedFile::Access::kSequential);
  std::string_view rest(reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size());
  std::string kept;
  for (int number = 1; !rest.empty(); ++number) {
    const std::string_view line = rest.substr(0, std::min(rest.find('\n'), rest.size() - 1) + 1);
    if (belongs(line, fmt::format("{}:{}", path, number), step)) kept += line;
    rest.remove_prefix(line.size());
  }
  if (kept.size() != file.bytes().size()) write_file_atomically(files, path, as_byte_span(kept));
}

}  // namespace switchyard
