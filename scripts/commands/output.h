#pragma once
// What a command answers, on standard output.

#include <string_view>

namespace switchyard::commands {

// StorageError where it cannot be written, as on a full disk; a reader that has gone away, as
// `head` does, is no error.
void print(std::string_view text);

}  // namespace switchyard::commands
