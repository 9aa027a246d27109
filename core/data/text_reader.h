#pragma once
// Documents from text files, in constant memory.

#include <cstdint>
#include <string>

#include "core/io/file.h"

namespace switchyard {

enum class TextFormat {
  kLines,       // one document per line; empty lines are skipped
  kParagraphs,  // documents separated by lines that are empty or blank
  kJsonLines,   // one JSON object per line; the document is its string "text"
};

// "lines", "paragraphs", "jsonl"; ConfigError otherwise.
TextFormat parse_text_format(const std::string& name);
// By the file's name: ".jsonl" and ".ndjson" are JSON lines, all else is paragraphs.
TextFormat guess_text_format(const std::string& path);

int64_t file_size(const std::string& path);

struct TextReaderOptions {
  TextFormat format = TextFormat::kParagraphs;
  int64_t max_document_bytes = 1 << 20;  // longer documents are cut between characters
};

struct TextCounts {
  int64_t documents = 0;           // given out, each part of a cut document counted
  int64_t bytes = 0;               // of those documents
  int64_t cut_documents = 0;       // parts that end at the limit rather than at the document's end
  int64_t invalid_utf8_bytes = 0;  // still part of the documents
  int64_t invalid_utf8_documents = 0;
  int64_t skipped_records = 0;  // JSON lines that cannot be used

  TextCounts& operator+=(const TextCounts& other);
};

// A byte order mark at the start is dropped, CRLF counts as LF.
class TextReader {
 public:
  TextReader(const std::string& path, const TextReaderOptions& options);

  // False at the end. Documents are never empty.
  //
  // JSON lines: a record that is no object with a string "text" (or is longer than 256 MiB) is
  // skipped and counted, but if it is the file's first, the file is not JSON lines: DataError.
  bool next(std::string& document);

  const TextCounts& counts() const { return counts_; }
  // Bytes of the file used so far; for progress.
  int64_t position() const { return file_position_ - static_cast<int64_t>(buffer_.size() - at_); }

 private:
  enum class Line { kEnd, kWhole, kPart };
  bool fill();
  Line append_line(std::string& text, size_t limit);
  bool next_line(std::string& document);
  bool next_paragraph(std::string& document);
  bool next_record(std::string& document);
  bool read_record(std::string& line);

  InputFile file_;
  TextReaderOptions options_;
  std::string buffer_;  // bytes [at_, end) are still to be used
  size_t at_ = 0;
  int64_t file_position_ = 0;  // of the end of buffer_
  int64_t line_number_ = 0;
  std::string pending_;  // kJsonLines: rest of a document that is being cut
  TextCounts counts_;
};

}  // namespace switchyard
