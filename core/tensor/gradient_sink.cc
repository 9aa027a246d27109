#include "core/tensor/gradient_sink.h"

#include "core/tensor/parameter.h"

namespace switchyard {

void GradientSink::begin_step(std::deque<Parameter>& parameters) {
  forward_has_ended_ = false;
  for (Parameter& parameter : parameters) parameter.progress = {};
}

void GradientSink::announce(Parameter& parameter) { ++parameter.progress.outstanding; }

void GradientSink::arrived(Parameter& parameter) {
  --parameter.progress.outstanding;
  if (forward_has_ended_) complete_if_nothing_is_outstanding(parameter);
}

void GradientSink::end_forward(std::deque<Parameter>& parameters) {
  forward_has_ended_ = true;
  for (Parameter& parameter : parameters) {
    if (parameter.trains) complete_if_nothing_is_outstanding(parameter);
  }
}

void GradientSink::complete_if_nothing_is_outstanding(Parameter& parameter) {
  if (parameter.progress.outstanding > 0 || parameter.progress.is_complete) return;
  parameter.progress.is_complete = true;
  if (ready) ready(parameter);
}

}  // namespace switchyard
