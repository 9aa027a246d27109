#include "trainer/machine/gemm_rates.h"

#include <set>

#include <ATen/Version.h>
#include <fmt/format.h>
#include <torch/headeronly/version.h>

#include "core/tensor/aten.h"
#include "trainer/machine/peak_rate.h"

namespace switchyard::trainer {
namespace {

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

}  // namespace

ComputeFacts measure_compute(int threads) {
  ComputeFacts facts;
  facts.libtorch =
      fmt::format("LibTorch {}.{}.{}, {}, {}, kernels for {}", TORCH_VERSION_MAJOR,
                  TORCH_VERSION_MINOR, TORCH_VERSION_PATCH, first_line(at::get_mkl_version()),
                  first_line(at::get_mkldnn_version()), at::get_cpu_capability());
  const int before = at::get_num_threads();
  for (const int count : std::set{1, threads}) {
    at::set_num_threads(count);
    for (const at::ScalarType type : {at::kFloat, at::kBFloat16})
      facts.rates.push_back(
          {type == at::kFloat ? "float32" : "bfloat16", count, 1e-9 * measure_peak_rate(type)});
  }
  at::set_num_threads(before);
  return facts;
}

}  // namespace switchyard::trainer
