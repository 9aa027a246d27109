#pragma once
// A one-line progress bar on a terminal.

#include <chrono>
#include <cstdint>
#include <string>

namespace switchyard::trainer {

// True if progress should be drawn: standard output is a terminal, or scripts/launch says that the
// job's is (SWITCHYARD_TERMINAL=1; what mpirun gives a rank, terminal or pipe, says nothing).
bool wants_progress_bar();

// Draws " 42% |########          | text" at the bottom line; other output goes between clear() and
// redraw().
class ProgressBar {
 public:
  explicit ProgressBar(bool is_visible) : is_visible_(is_visible) {}
  ~ProgressBar() { clear(); }
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  // May come as often as it likes: a terminal, and a launcher that passes it on, see ten a second.
  void update(int64_t done, int64_t total, const std::string& text);
  void clear();
  // What update() was told last; nothing before the first.
  void redraw();

 private:
  bool is_visible_;
  bool is_drawn_ = false;
  std::string line_;
  std::chrono::steady_clock::time_point next_draw_;
};

}  // namespace switchyard::trainer
