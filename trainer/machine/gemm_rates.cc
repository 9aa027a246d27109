#include "trainer/machine/gemm_rates.h"

#include <ATen/Version.h>
#include <fmt/format.h>
#include <torch/headeronly/version.h>

#include "core/tensor/aten.h"
#include "trainer/machine/peak_rate.h"

namespace switchyard::trainer {
namespace {

class ThreadCount {
 public:
  explicit ThreadCount(int threads) : before_(at::get_num_threads()) {
    at::set_num_threads(threads);
  }
  ~ThreadCount() { at::set_num_threads(before_); }
  ThreadCount(const ThreadCount&) = delete;
  ThreadCount& operator=(const ThreadCount&) = delete;

 private:
  int before_;
};

GemmRate measure(at::ScalarType type, int threads) {
  const ThreadCount guard(threads);
  return {type == at::kFloat ? "float32" : "bfloat16", threads, 1e-9 * measure_peak_rate(type)};
}

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

}  // namespace

ComputeFacts measure_compute(int threads) {
  ComputeFacts facts;
  facts.libtorch =
      fmt::format("LibTorch {}.{}.{}, {}, {}, kernels for {}", TORCH_VERSION_MAJOR,
                  TORCH_VERSION_MINOR, TORCH_VERSION_PATCH, first_line(at::get_mkl_version()),
                  first_line(at::get_mkldnn_version()), at::get_cpu_capability());
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    facts.rates.push_back(measure(type, 1));
    if (threads > 1) facts.rates.push_back(measure(type, threads));
  }
  return facts;
}

}  // namespace switchyard::trainer
