#pragma once
// Names that other people's files may give to a file: never a path.

#include <string_view>

namespace switchyard {

constexpr const char* kPlainName =
    "letters, digits, \".\", \"_\" and \"-\", at most 255, not beginning with \".\" or \"-\"";

// Whether the name is as kPlainName says, so that it can lead nowhere but into its own folder.
bool is_plain_name(std::string_view name);

}  // namespace switchyard
