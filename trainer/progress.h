#pragma once
// A one-line progress bar on a terminal.

#include <cstdint>
#include <string>

namespace switchyard::trainer {

// True if progress should be drawn: standard output is a terminal, or the launcher says that the
// job's is (SWITCHYARD_TERMINAL=1; mpirun gives ranks pipes).
bool wants_progress_bar();

// Draws " 42% |########          | text" at the bottom line and wipes it before other output.
class ProgressBar {
 public:
  explicit ProgressBar(bool is_visible) : is_visible_(is_visible) {}
  ~ProgressBar() { clear(); }
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  void update(int64_t done, int64_t total, const std::string& text);
  void clear();

 private:
  bool is_visible_;
  bool is_drawn_ = false;
};

}  // namespace switchyard::trainer
