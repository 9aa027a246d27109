#include "core/data/text_reader.h"

#include <algorithm>
#include <optional>

#include "core/base/errors.h"
#include "core/data/utf8.h"
#include "core/io/json_events.h"

namespace switchyard {
namespace {

constexpr size_t kBufferBytes = 1 << 18;
constexpr size_t kMaxRecordBytes = size_t{256} << 20;
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

bool is_blank(std::string_view line) {
  return line.find_first_not_of(" \t\v\f\r") == std::string_view::npos;
}

// Takes the string "text" out of a record and keeps nothing else of it, so that memory stays within
// a few times the line's size whatever the line holds.
class RecordEvents : public JsonEvents {
 public:
  explicit RecordEvents(const std::string& where) : JsonEvents(where, raise<DataError>) {}

  bool null() { return pass(); }
  bool boolean(bool) { return pass(); }
  bool number_integer(int64_t) { return pass(); }
  bool number_unsigned(uint64_t) { return pass(); }
  bool number_float(double, const std::string&) { return pass(); }
  bool start_object(size_t) { return open(); }
  bool start_array(size_t) { return is_object_ ? open() : pass(); }
  bool end_object() { return close(); }
  bool end_array() { return close(); }

  bool key(std::string& name) {
    if (depth_ == 1) is_text_ = name == "text";
    return true;
  }

  bool string(std::string& value) {
    if (depth_ != 1 || !is_text_) return pass();
    if (text_) fail("two fields \"text\"");
    text_ = std::move(value);
    return true;
  }

  std::string take_text() {
    if (!text_) fail(kExpected);
    return std::move(*text_);
  }

 private:
  static constexpr int kMaxDepth = 64;
  static constexpr const char* kExpected = "expected an object with a string field \"text\"";

  // A value that is not the text: within the record it does not matter.
  bool pass() {
    if (!is_object_ || (depth_ == 1 && is_text_)) fail(kExpected);
    return true;
  }
  bool open() {
    if (is_object_) pass();
    is_object_ = true;
    if (++depth_ > kMaxDepth) fail(fmt::format("nested deeper than {} levels", kMaxDepth));
    return true;
  }
  bool close() {
    --depth_;
    return true;
  }

  bool is_object_ = false;  // the record itself
  bool is_text_ = false;    // the record's present field
  int depth_ = 0;
  std::optional<std::string> text_;
};

// The "text" of a record; DataError if it has none.
std::string text_of(const std::string& line, const std::string& where) {
  RecordEvents events(where);
  parse_json_events(line, events);
  return events.take_text();
}

}  // namespace

TextFormat parse_text_format(const std::string& name) {
  if (name == "lines") return TextFormat::kLines;
  if (name == "paragraphs") return TextFormat::kParagraphs;
  if (name == "jsonl") return TextFormat::kJsonLines;
  throw ConfigError(fmt::format("text format '{}': expected lines, paragraphs or jsonl", name));
}

TextFormat guess_text_format(const std::string& path) {
  const bool json = path.ends_with(".jsonl") || path.ends_with(".ndjson");
  return json ? TextFormat::kJsonLines : TextFormat::kParagraphs;
}

int64_t file_size(const std::string& path) { return static_cast<int64_t>(InputFile(path).size()); }

TextCounts& TextCounts::operator+=(const TextCounts& other) {
  documents += other.documents;
  bytes += other.bytes;
  cut_documents += other.cut_documents;
  invalid_utf8_bytes += other.invalid_utf8_bytes;
  invalid_utf8_documents += other.invalid_utf8_documents;
  skipped_records += other.skipped_records;
  return *this;
}

TextReader::TextReader(const std::string& path, const TextReaderOptions& options)
    : file_(path), options_(options) {
  SY_CHECK(options.max_document_bytes >= 4, "a limit of {} bytes holds no character",
           options.max_document_bytes);
  if (fill() && buffer_.starts_with(kByteOrderMark)) at_ = kByteOrderMark.size();
}

// Replaces a used-up buffer; false at the end of the file.
bool TextReader::fill() {
  buffer_.resize(kBufferBytes);
  buffer_.resize(file_.read(std::as_writable_bytes(std::span(buffer_))));
  at_ = 0;
  file_position_ += static_cast<int64_t>(buffer_.size());
  return !buffer_.empty();
}

// Appends the rest of a line, without its end, as long as `text` stays within `limit` bytes; kPart
// if it did not, and the rest of the line is still to come.
TextReader::Line TextReader::append_line(std::string& text, size_t limit) {
  bool any = false;
  while (text.size() <= limit) {
    if (at_ == buffer_.size() && !fill()) return any ? Line::kWhole : Line::kEnd;
    any = true;
    const auto rest = std::string_view(buffer_).substr(at_, limit + 1 - text.size());
    const size_t end = rest.find('\n');
    text += rest.substr(0, end);
    if (end != std::string_view::npos) {
      at_ += end + 1;
      ++line_number_;
      if (text.ends_with('\r')) text.pop_back();
      return Line::kWhole;
    }
    at_ += rest.size();
  }
  const size_t cut = utf8_cut(text, limit);
  // What was read too far goes back in front of the buffer.
  buffer_.replace(0, at_, text, cut);
  at_ = 0;
  text.resize(cut);
  ++counts_.cut_documents;
  return Line::kPart;
}

bool TextReader::next_line(std::string& document) {
  const auto limit = static_cast<size_t>(options_.max_document_bytes);
  while (document.empty())
    if (append_line(document, limit) == Line::kEnd) return false;
  return true;
}

// Lines are collected in place; what the loop removes again is only a blank line that ended it.
bool TextReader::next_paragraph(std::string& document) {
  const auto limit = static_cast<size_t>(options_.max_document_bytes);
  for (;;) {
    const size_t before = document.size();
    if (before > 0) document += '\n';
    const size_t start = document.size();
    const Line line = append_line(document, limit);
    if (line == Line::kPart) return true;
    const bool blank = is_blank(std::string_view(document).substr(start));
    if (blank) document.resize(before);
    if (line == Line::kEnd || (blank && before > 0)) return before > 0;
  }
}

// One line of JSON into `line`; skips those that are too long.
bool TextReader::read_record(std::string& line) {
  for (;;) {
    line.clear();
    const int64_t cuts = counts_.cut_documents;
    Line end = append_line(line, kMaxRecordBytes);
    counts_.cut_documents = cuts;  // a skipped record is no cut document
    if (end == Line::kWhole && !is_blank(line)) return true;
    if (end == Line::kEnd) return false;
    if (end == Line::kWhole) continue;
    ++counts_.skipped_records;
    while (end == Line::kPart) {
      line.clear();
      end = append_line(line, kMaxRecordBytes);
    }
    counts_.cut_documents = cuts;
  }
}

bool TextReader::next_record(std::string& document) {
  std::string line;
  while (pending_.empty()) {
    if (!read_record(line)) return false;
    try {
      pending_ = text_of(line, fmt::format("{}:{}", file_.path(), line_number_));
    } catch (const DataError& error) {
      if (counts_.documents == 0)
        throw DataError(
            fmt::format("{}; the first record is not usable as JSON lines", error.what()));
      ++counts_.skipped_records;
    }
  }
  const size_t limit = std::min(pending_.size(), static_cast<size_t>(options_.max_document_bytes));
  const size_t cut = utf8_cut(pending_, limit);
  if (cut < pending_.size()) ++counts_.cut_documents;
  document.assign(pending_, 0, cut);
  pending_.erase(0, cut);
  return true;
}

bool TextReader::next(std::string& document) {
  document.clear();
  const bool found = options_.format == TextFormat::kLines        ? next_line(document)
                     : options_.format == TextFormat::kParagraphs ? next_paragraph(document)
                                                                  : next_record(document);
  if (!found) return false;
  ++counts_.documents;
  counts_.bytes += static_cast<int64_t>(document.size());
  if (const int64_t invalid = count_invalid_utf8(document); invalid > 0) {
    counts_.invalid_utf8_bytes += invalid;
    ++counts_.invalid_utf8_documents;
  }
  return true;
}

}  // namespace switchyard
