// The hot operations against their limit, the plain matrix products, in the same run. Usage:
// tensor_bench [--benchmark_filter=...]

#include <algorithm>
#include <cstdio>
#include <vector>

#include <benchmark/benchmark.h>

#include "core/tensor/aten.h"
#include "core/tensor/gemm.h"
#include "core/tensor/ops.h"
#include "core/tensor/runtime.h"
#include "core/tensor/vocabulary_loss.h"
#include "tests/bench/compare.h"

namespace switchyard {
namespace {

Parameter& add(ParameterTable& table, std::vector<int64_t> shape) {
  return Scope(table).matrix(std::to_string(table.parameters().size()), std::move(shape),
                             {Init::kNormal, 0.02});
}

struct ExpertShape {
  int64_t rows, experts, features, hidden;
  std::vector<int64_t> offsets() const {  // balanced
    std::vector<int64_t> result;
    for (int64_t i = 0; i <= experts; ++i) result.push_back(rows * i / experts);
    return result;
  }
};

// Forward and backward against the nine products per expert (w1, w3, w2: three each).
void experts(benchmark::State& state, ExpertShape shape, at::ScalarType type, int threads) {
  at::set_num_threads(threads);
  ParameterTable table;
  Parameter& w13 = add(table, {shape.experts, 2 * shape.hidden, shape.features});
  Parameter& w2 = add(table, {shape.experts, shape.features, shape.hidden});
  table.allocate(type);
  table.initialize(1);
  const at::Tensor x = at::randn({shape.rows, shape.features}).to(type).set_requires_grad(true);
  const at::Tensor dy = at::randn({shape.rows, shape.features}).to(type);
  const std::vector<int64_t> offsets = shape.offsets();
  const at::Tensor dx = at::empty_like(dy);
  const at::Tensor h = at::randn({shape.rows, shape.hidden}).to(type), dh = at::empty_like(h);
  const at::Tensor dw13 = at::empty_like(w13.value), dw2 = at::empty_like(w2.value);
  const auto limit = [&] {
    at::NoGradGuard no_grad;
    for (int64_t i = 0; i < shape.experts; ++i) {
      const auto rows = [&](const at::Tensor& t) {
        return t.narrow(0, offsets[i], offsets[i + 1] - offsets[i]);
      };
      for (int64_t half = 0; half < 2; ++half) {  // w1, then w3
        const at::Tensor w = w13.value[i].narrow(0, half * shape.hidden, shape.hidden);
        matmul(rows(x), w.t(), rows(dh));
        matmul(rows(h), w, rows(dx));
        matmul(rows(h).t(), rows(x), dw13[i].narrow(0, half * shape.hidden, shape.hidden));
      }
      matmul(rows(h), w2.value[i].t(), rows(dx));
      matmul(rows(dy), w2.value[i], rows(dh));
      matmul(rows(dy).t(), rows(h), dw2[i]);
    }
  };
  compare(state, limit, [&] {
    ffn_experts(x, {&w13, &w2}, Activation::kSwiglu, offsets).backward(dy);
  });
}

// Forward with gradients against its three products.
void vocabulary(benchmark::State& state, at::ScalarType type, int threads) {
  at::set_num_threads(threads);
  constexpr int64_t kTokens = 2048, kFeatures = 256, kVocabulary = 8192;
  ParameterTable table;
  Parameter& weight = add(table, {kVocabulary, kFeatures});
  table.allocate(type);
  table.initialize(1);
  const at::Tensor hidden = at::randn({kTokens, kFeatures}).to(type).set_requires_grad(true);
  const at::Tensor targets = at::randint(kVocabulary, {kTokens}, at::kLong);
  const at::Tensor w = weight.value.detach(), rows = hidden.detach().narrow(0, 0, 256);
  const at::Tensor logits = at::empty({256, kVocabulary}, w.options());
  const at::Tensor d_hidden = at::empty_like(rows);
  const auto limit = [&] {
    for (int64_t block = 0; block < kTokens / 256; ++block) {
      matmul(rows, w.t(), logits);
      matmul(logits, w, d_hidden);
      matmul(logits.t(), rows, weight.grad, true);
    }
  };
  compare(state, limit, [&] {
    CrossEntropyLoss loss(targets, 1e-3);
    vocabulary_loss(hidden, weight, loss).backward();
  });
}

// Forward and backward against copies that move no more: x to y; x and dy to dx.
void norm(benchmark::State& state, at::ScalarType type) {
  at::set_num_threads(2);
  ParameterTable table;
  Parameter& weight = add(table, {512});
  table.allocate(type);
  const at::Tensor x = at::randn({4096, 512}).to(type).set_requires_grad(true);
  const at::Tensor dy = at::randn({4096, 512}).to(type), copy = at::empty_like(dy);
  const auto limit = [&] {
    for (int i = 0; i < 3; ++i) copy.copy_(dy);
  };
  compare(state, limit, [&] { rms_norm(x, weight, 1e-5).backward(dy); });
}

// Forward and backward against two copies.
void rotary(benchmark::State& state, at::ScalarType type) {
  at::set_num_threads(2);
  const at::Tensor x = at::randn({8, 256, 8, 64}).to(type).set_requires_grad(true);
  const at::Tensor dy = at::randn({8, 256, 8, 64}).to(type), copy = at::empty_like(dy);
  const at::Tensor angle = at::randn({256, 32});
  const at::Tensor cos = angle.cos(), sin = angle.sin();
  const auto limit = [&] {
    for (int i = 0; i < 2; ++i) copy.copy_(dy);
  };
  compare(state, limit, [&] { rope(x, cos, sin).backward(dy); });
}

// The chosen path against ATen's on a shape of a real expert.
void product(benchmark::State& state, at::ScalarType type) {
  at::set_num_threads(2);
  const at::Tensor a = at::randn({256, 512}).to(type), b = at::randn({1024, 512}).to(type).t();
  const at::Tensor out = at::empty({256, 1024}, a.options());
  const auto limit = [&] { matmul_by(GemmPath::kAten, a, b, out, false); };
  compare(state, limit, [&] { matmul(a, b, out); });
}

template <typename F, typename... Args>
void add_benchmark(const std::string& name, F f, Args... args) {
  benchmark::RegisterBenchmark(name.c_str(), f, args...)
      ->UseManualTime()
      ->Unit(benchmark::kMillisecond);
}

void add_all() {
  const std::vector<std::pair<std::string, ExpertShape>> shapes = {
      {"coarse_E8_k2_f1024", {2048, 8, 512, 1024}},
      {"fine_E32_k8_f256", {8192, 32, 512, 256}},
      {"very_fine_E128_k8_f128", {16384, 128, 512, 128}},
      {"quickstart_E8_k2_d256_f640", {4096, 8, 256, 640}}};
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    const std::string suffix = std::string("/") + at::toString(type);
    add_benchmark("product" + suffix, product, type);
    for (const int threads : {1, 2}) {
      for (const auto& [name, shape] : shapes) {
        add_benchmark("experts/" + name + suffix + "/threads:" + std::to_string(threads), experts,
                      shape, type, threads);
      }
      add_benchmark("vocabulary" + suffix + "/threads:" + std::to_string(threads), vocabulary, type,
                    threads);
    }
    add_benchmark("rms_norm" + suffix, norm, type);
    add_benchmark("rope" + suffix, rotary, type);
  }
}

const char* name_of(GemmPath path) {
  switch (path) {
    case GemmPath::kAten:
      return "ATen";
    case GemmPath::kOneDnn:
      return "oneDNN";
    case GemmPath::kFloat32:
      return "through float32";
  }
  return "?";
}

// "products: float32 oneDNN, bfloat16 oneDNN (AuthenticAMD 25.17, AVX512)"
void print_paths(const GemmPaths& paths) {
  std::printf("products: float32 %s, bfloat16 %s (%s)\n", name_of(paths.float32),
              name_of(paths.bfloat16), processor_name().c_str());
}

}  // namespace
}  // namespace switchyard

int main(int argc, char** argv) {
  switchyard::configure_tensor_runtime(2);
  switchyard::print_paths(switchyard::gemm_paths());
  switchyard::add_all();
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
