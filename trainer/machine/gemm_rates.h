#pragma once
// How fast this machine multiplies matrices: the limit of a training step.

#include <string>
#include <vector>

namespace switchyard::trainer {

struct GemmRate {
  std::string type;  // "float32", "bfloat16"
  int threads = 1;
  double gflops = 0;
};

struct ComputeFacts {
  std::string libtorch;  // version, its BLAS libraries and instruction set
  std::vector<GemmRate> rates;
};

// Measures each type with one thread and with `threads`, about a second each, and keeps the rates
// for the runs to come (trainer/machine/peak_rate.h). Leaves LibTorch's number of threads as it
// was.
ComputeFacts measure_compute(int threads);

}  // namespace switchyard::trainer
