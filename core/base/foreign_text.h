#pragma once
// Texts of unknown origin: as names of files, and in messages.

#include <cstddef>
#include <string>
#include <string_view>

namespace switchyard {

constexpr const char* kPlainName =
    "letters, digits, \".\", \"_\" and \"-\", at most 255, not beginning with \".\" or \"-\"";

// Whether the name is as kPlainName says, so that it can lead nowhere but into its own folder.
bool is_plain_name(std::string_view name);

// In double quotes, cut behind `limit` bytes, control characters and bytes outside ASCII as \xNN:
// what is echoed can break neither a line of the message nor the terminal.
std::string in_quotes(std::string_view text, size_t limit = 120);

}  // namespace switchyard
