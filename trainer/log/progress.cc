#include "trainer/log/progress.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include <fmt/format.h>

#include "parallel/world.h"

namespace switchyard::trainer {
namespace {

// Not fmt::print, which throws where the terminal is gone: the job goes on without its bar.
void put(const std::string& text) {
  std::fputs(text.c_str(), stdout);
  std::fflush(stdout);
}

}  // namespace

bool wants_progress_bar() {
  const char* terminal = std::getenv("SWITCHYARD_TERMINAL");
  if (terminal) return std::string_view(terminal) == "1";
  return !parallel::launched_by_mpi() && isatty(STDOUT_FILENO) == 1;
}

void ProgressBar::update(int64_t done, int64_t total, const std::string& text) {
  if (!is_visible_ || total <= 0) return;
  constexpr int kWidth = 24;
  const double share = std::clamp(static_cast<double>(done) / static_cast<double>(total), 0.0, 1.0);
  const auto filled = static_cast<size_t>(share * kWidth);
  line_ = fmt::format("{:3.0f}% |{}{}| {}", 100 * share, std::string(filled, '#'),
                      std::string(kWidth - filled, ' '), text);
  if (done < total && std::chrono::steady_clock::now() < next_draw_) return;
  redraw();
}

void ProgressBar::redraw() {
  if (line_.empty()) return;
  put("\r\033[2K" + line_);
  is_drawn_ = true;
  next_draw_ = std::chrono::steady_clock::now() + std::chrono::milliseconds(100);
}

void ProgressBar::clear() {
  if (!is_drawn_) return;
  put("\r\033[2K");
  is_drawn_ = false;
}

}  // namespace switchyard::trainer
