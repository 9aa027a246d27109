#pragma once
// A test that skips itself proves nothing, so a skip is a failure unless tests/allowed_skips.txt
// lists the test with a reason.

#include <map>
#include <string>
#include <string_view>

namespace switchyard::testing {

// "<Suite.Test> <reason>" per line; '#' starts a comment. Throws std::runtime_error for a line
// without a reason.
std::map<std::string, std::string> parse_allowed_skips(std::string_view text);

// Call in main, before RUN_ALL_TESTS.
void forbid_unlisted_skips();

}  // namespace switchyard::testing
