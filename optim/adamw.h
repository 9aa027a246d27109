#pragma once
// AdamW (Loshchilov and Hutter, 2019) on the flat buffers of the parameter groups.

#include <vector>

#include "optim/optimizer.h"

namespace switchyard::optim {

// First and second moments of a group, flat, laid out as its master.
struct Moments {
  at::Tensor first, second;
};

// Zero.
Moments make_moments(const ParameterGroup& group);

// One update of the group's master; `step` counts from 1. Local.
void adamw_update(ParameterGroup& group, Moments& moments, const config::Optimizer& options,
                  double learning_rate, int64_t step);

// Appends first_moment and second_moment of each of the group's parameters.
void append_state(const ParameterGroup& group, const Moments& moments,
                  std::vector<StateTensor>& state);

class AdamW final : public Optimizer {
 public:
  AdamW(const config::Optimizer& options, std::span<ParameterGroup> groups);

  std::vector<StateTensor> state() override;
  at::Tensor& first_moment(size_t group) { return moments_[group].first; }
  at::Tensor& second_moment(size_t group) { return moments_[group].second; }

 private:
  void update(double learning_rate) override;

  std::vector<Moments> moments_;
};

}  // namespace switchyard::optim
