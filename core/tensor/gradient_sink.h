#pragma once
// Knows when a gradient is complete. An operation that uses a parameter announces in forward that
// its backward will add to the parameter's gradient, and tells when it has; core/tensor/
// differentiable.h does both for every operation. A parameter with several uses (tied embeddings,
// several micro-batches) is complete after the last of them. Then its reduction may start while
// backward goes on.

#include <cstdint>
#include <deque>
#include <functional>

namespace switchyard {

struct Parameter;

// How far a parameter's gradient is in the current step.
struct GradientProgress {
  int64_t outstanding = 0;  // contributions that were announced and have not come
  bool is_complete = false;
};

class GradientSink {
 public:
  std::function<void(Parameter&)> ready;  // empty: nobody waits

  void begin_step(std::deque<Parameter>& parameters);
  void announce(Parameter& parameter);
  void arrived(Parameter& parameter);
  // No announcement follows in this step.
  void end_forward(std::deque<Parameter>& parameters);

 private:
  void complete_if_nothing_is_outstanding(Parameter& parameter);

  bool forward_has_ended_ = false;
};

}  // namespace switchyard
