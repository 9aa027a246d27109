#pragma once
// `--set path=value` on the command line.

#include <string>

#include <google/protobuf/message.h>

namespace switchyard::config {

// Sets one scalar, named by a path such as "model.moe.top_k" or "data.train[0].weight" (the index
// after the last adds an element), from exactly one value; texts need no quotes and are taken
// literally. Returns the problem as one line that begins with `--set`, or an empty string.
std::string apply_override(google::protobuf::Message& config, const std::string& assignment);

// The path of an assignment: what stands before the "=".
std::string override_path(const std::string& assignment);

}  // namespace switchyard::config
