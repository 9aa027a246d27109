#pragma once
// Where the time of training steps goes, by part of the step, from LibTorch's own profiling hooks:
// every ATen call, autograd node and named scope of ours reports to them, forward and backward.

#include <chrono>
#include <map>
#include <string>
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
  std::map<std::string, double> seconds() const;

  // Called by the hooks.
  void enter(const char* name);
  void leave();

 private:
  using Clock = std::chrono::steady_clock;
  struct Frame {
    const char* part;  // null: the enclosing part's
    Clock::time_point start;
    double nested = 0;
  };
  std::vector<Frame> stack_;
  std::map<std::string, double> seconds_;
  uint64_t callback_ = 0;
};

// The part of a step that a scope's name belongs to; null for what belongs to its surroundings.
const char* part_of_step(const char* name);

}  // namespace switchyard::trainer
