#include "core/base/log.h"

#include <cstdio>
#include <memory>
#include <mutex>
#include <set>
#include <vector>

#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

namespace switchyard {
namespace {

// spdlog's default logger is the one process-wide object here; ranks in threads of a test share it.
struct Prefix {
  std::mutex mutex;
  int rank = 0;
  int num_ranks = 1;
  std::set<std::string, std::less<>> warned;
};

Prefix& prefix() {
  static Prefix value;
  return value;
}

}  // namespace

void start_log(int rank, int num_ranks, const std::string& file) {
  std::vector<spdlog::sink_ptr> sinks;
  if (rank == 0) sinks.push_back(std::make_shared<spdlog::sinks::stdout_sink_mt>());
  if (!file.empty()) sinks.push_back(std::make_shared<spdlog::sinks::basic_file_sink_mt>(file));
  auto logger = std::make_shared<spdlog::logger>("switchyard", sinks.begin(), sinks.end());
  logger->set_pattern("%v");
  logger->flush_on(spdlog::level::info);
  spdlog::set_default_logger(std::move(logger));
  std::lock_guard lock(prefix().mutex);
  prefix().rank = rank;
  prefix().num_ranks = num_ranks;
}

void log_line(std::string_view text) {
  if (prefix().rank == 0) spdlog::info(text);
}

void log_warning(std::string_view text) {
  std::lock_guard lock(prefix().mutex);
  if (!prefix().warned.emplace(text).second) return;
  const std::string line = prefix().num_ranks > 1
                               ? fmt::format("warning: [rank {}] {}", prefix().rank, text)
                               : fmt::format("warning: {}", text);
  // Not fmt::print, which throws where stderr is closed or its disk is full.
  std::fputs((line + "\n").c_str(), stderr);
}

}  // namespace switchyard
