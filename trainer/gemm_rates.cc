#include "trainer/gemm_rates.h"

#include <algorithm>
#include <chrono>

#include <ATen/Version.h>
#include <fmt/format.h>
#include <torch/headeronly/version.h>

#include "core/tensor/aten.h"

namespace switchyard::trainer {
namespace {

using Clock = std::chrono::steady_clock;

// Tokens, d_model and twice d_ff of a small model's FFN.
constexpr int64_t kM = 512, kK = 512, kN = 2048;
constexpr double kSeconds = 0.1;

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

// The best of many: what the machine can do, not what its neighbours leave.
GemmRate measure(at::ScalarType type, int threads) {
  const ThreadCount guard(threads);
  const at::Tensor a = at::ones({kM, kK}, type), b = at::ones({kK, kN}, type);
  at::Tensor out = at::empty({kM, kN}, type);
  at::mm_out(out, a, b);  // builds the kernel
  double best = 1e9;
  for (const auto start = Clock::now();
       Clock::now() - start < std::chrono::duration<double>(kSeconds);) {
    const auto begin = Clock::now();
    at::mm_out(out, a, b);
    best = std::min(best, std::chrono::duration<double>(Clock::now() - begin).count());
  }
  return {type == at::kFloat ? "float32" : "bfloat16", threads, 2e-9 * kM * kK * kN / best};
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
