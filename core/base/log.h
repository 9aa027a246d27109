#pragma once
// The process's log: rank 0 on the console, warnings of any rank with "[rank r]". Thin over spdlog
// so that its header stays out of ours.

#include <string>
#include <string_view>

#include <fmt/format.h>

namespace switchyard {

// Call once in main, after the rank is known. `file` (may be empty) gets a copy of what this rank
// logs.
void start_log(int rank, int num_ranks, const std::string& file);

void log_line(std::string_view text);     // rank 0 only, stdout, as it is
void log_warning(std::string_view text);  // any rank, stderr; a text is printed once

template <typename... Args>
void info(fmt::format_string<Args...> format, Args&&... args) {
  log_line(fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void warn(fmt::format_string<Args...> format, Args&&... args) {
  log_warning(fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace switchyard
