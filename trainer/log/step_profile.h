#pragma once
// Where the time of training steps goes, by part of the step: the named scopes of the program
// ("sy::..."), and the backward pass of what was computed in them.

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace switchyard::trainer {

// Seconds by part while it lives; one at a time, and only this thread's work is counted.
class StepProfile {
 public:
  StepProfile();
  ~StepProfile();
  StepProfile(const StepProfile&) = delete;
  StepProfile& operator=(const StepProfile&) = delete;

  // Seconds of each part so far; time inside a nested scope counts to the inner part only.
  const std::map<std::string, double>& seconds() const { return seconds_; }

  // Called by the hooks. `node`: the number of the autograd node whose backward begins, or -1.
  void enter(std::string_view name, int64_t node);
  void leave();

 private:
  using Clock = std::chrono::steady_clock;
  struct Frame {
    std::string part;  // empty: the enclosing part's
    Clock::time_point start;
    double nested = 0;
  };

  std::string part_of(std::string_view name, int64_t node) const;
  std::string current() const;

  std::vector<Frame> stack_;
  std::map<std::string, double> seconds_;
  // Autograd numbers its nodes in the order of the forward pass: those from this number on, up to
  // the next, were made in this part.
  std::map<uint64_t, std::string> made_in_;
  uint64_t callback_ = 0;
};

}  // namespace switchyard::trainer
