#pragma once
// AdamW (Loshchilov and Hutter, 2019) on the flat buffers of the parameter groups.

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "core/config/run_config.pb.h"
#include "core/tensor/parameter.h"

namespace switchyard::optim {

class AdamW {
 public:
  // Borrows the groups, which must be allocated and must outlive the optimizer.
  AdamW(const config::Optimizer& options, std::vector<ParameterGroup>& groups);

  // One update with reduced gradients of L2 norm `gradient_norm`: clips, steps, refreshes the
  // compute values. Local.
  void step(double learning_rate, double gradient_norm);

  // Factor by which clipping scales a gradient of this norm.
  double clip_factor(double gradient_norm) const;

  // First and second moments of group i, flat, laid out as its master. For checkpoints, which also
  // restore num_steps.
  at::Tensor& first_moment(size_t group) { return first_[group]; }
  at::Tensor& second_moment(size_t group) { return second_[group]; }
  int64_t num_steps() const { return num_steps_; }
  void set_num_steps(int64_t steps) { num_steps_ = steps; }

 private:
  config::Optimizer options_;
  std::vector<ParameterGroup>& groups_;
  std::vector<at::Tensor> first_, second_;
  int64_t num_steps_ = 0;
};

}  // namespace switchyard::optim
