#pragma once
// Reads Protobuf's text format, strictly, and reports every problem of a text with its line and
// column, where Protobuf's own parser stops at the first. That parser still has the last word on a
// text in which nothing was found.

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <google/protobuf/message.h>

namespace switchyard::config {

// One file's text and how messages name it. `root` is the path of the message it holds: "" for a
// run, "model" for a preset.
struct TextSource {
  std::string_view text;
  std::string file;
  std::string root;
};

struct ReadResult {
  std::vector<std::string> problems;         // "file:line:column: ...", in order of position
  std::map<std::string, std::string> where;  // "model.moe.top_k" -> "file:line:column"
};

// Fills `out` with every field that could be read, also when there are problems. Lines and columns
// count from 1.
ReadResult read_text(const TextSource& source, google::protobuf::Message& out);

}  // namespace switchyard::config
