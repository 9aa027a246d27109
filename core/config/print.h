#pragma once
// A config as text, as bytes, and as the difference to another.

#include <string>
#include <vector>

#include <google/protobuf/descriptor.h>

#include "core/config/run_config.pb.h"

namespace switchyard::config {

// Text format in the schema's order; reading it gives the same config.
std::string to_text(const RunConfig& config);

// For the broadcast from rank 0: ranks that parse the same bytes cannot disagree.
std::string serialize(const RunConfig& config);
RunConfig parse(const std::string& bytes);  // throws CheckError: the bytes are our own

// A scalar that differs, "unset" where it is absent; or a group that is "present" or "absent".
struct Difference {
  std::string path, from, to;
  bool may_change = false;  // see may_change_on_resume()

  std::string text() const { return path + ": " + from + " -> " + to; }
};
// By the schema's options: the field's own word, else that of the message it stands in.
bool may_change_on_resume(const google::protobuf::FieldDescriptor& field);

std::vector<Difference> differences(const RunConfig& from, const RunConfig& to);

}  // namespace switchyard::config
