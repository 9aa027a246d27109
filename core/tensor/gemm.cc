#include "core/tensor/gemm.h"

#include <algorithm>
#include <chrono>

#include "core/base/errors.h"
#include "core/base/seconds.h"
#include "core/tensor/aten.h"

// Exported by libtorch_cpu, but its header is not shipped. Weak: a LibTorch without it still links,
// and the address is null. result = alpha * mat1 mat2 + beta * result; throws without AVX-512.
namespace at::native {
__attribute__((weak)) void mkldnn_matmul(const Tensor& mat1, const Tensor& mat2,
                                         const Tensor& result, float beta, float alpha);
}  // namespace at::native

namespace switchyard {
namespace {

// oneDNN must win by this much, so that noise does not make two runs choose differently.
constexpr double kClearlyFaster = 1.25;

bool onednn_takes(at::ScalarType type) {
  if (&at::native::mkldnn_matmul == nullptr) return false;
  const at::Tensor x = at::ones({32, 32}, type), out = at::ones({32, 32}, type);
  try {
    at::native::mkldnn_matmul(x, x, out, 1.0f, 1.0f);
  } catch (const c10::Error&) {  // "needs the cpu support ..."
    return false;
  }
  return out.eq(33).all().item<bool>();
}

// Best of several runs of a shape like an expert's: 256 rows.
double measure_gflops(GemmPath path) {
  constexpr int64_t m = 256, k = 256, n = 512;
  const at::Tensor a = at::ones({m, k}), b = at::ones({n, k}).t(), out = at::empty({m, n});
  double best_seconds = 1e9;
  for (int repeat = 0; repeat < 6; ++repeat) {
    const auto start = std::chrono::steady_clock::now();
    matmul_by(path, a, b, out, false);
    best_seconds = std::min(best_seconds, seconds_since(start));
  }
  return 2e-9 * m * k * n / best_seconds;
}

GemmChoice choose() {
  at::NoGradGuard no_grad;
  GemmChoice choice;
  choice.aten_gflops = measure_gflops(GemmPath::kAten);
  if (onednn_takes(at::kFloat)) {
    choice.onednn_gflops = measure_gflops(GemmPath::kOneDnn);
    if (choice.onednn_gflops > kClearlyFaster * choice.aten_gflops) {
      choice.float32 = GemmPath::kOneDnn;
    }
  }
  // ATen's own bfloat16 is oneDNN too where there is AVX-512, and a naive loop where there is not.
  choice.bfloat16 = onednn_takes(at::kBFloat16) ? GemmPath::kOneDnn : GemmPath::kFloat32;
  return choice;
}

GemmPath path_for(const at::Tensor& a, int64_t n) {
  if (a.scalar_type() == at::kDouble || !a.is_cpu()) return GemmPath::kAten;
  if (a.scalar_type() == at::kBFloat16) return gemm_choice().bfloat16;
  return a.numel() * n <= kSmallProduct ? GemmPath::kAten : gemm_choice().float32;
}

// Operands and output of one type.
void same_type_matmul(GemmPath path, const at::Tensor& a, const at::Tensor& b,
                      const at::Tensor& out, bool accumulate) {
  at::Tensor target = out;
  if (path == GemmPath::kOneDnn) {
    at::native::mkldnn_matmul(a, b, out, accumulate ? 1.0f : 0.0f, 1.0f);
  } else if (accumulate) {
    at::addmm_out(target, out, a, b);
  } else {
    at::mm_out(target, a, b);
  }
}

// float32 or bfloat16 output from bfloat16 operands.
void matmul_through_float32(const at::Tensor& a, const at::Tensor& b, const at::Tensor& out,
                            bool accumulate) {
  const at::Tensor a32 = a.to(at::kFloat), b32 = b.to(at::kFloat);
  if (out.scalar_type() == at::kFloat) return matmul(a32, b32, out, accumulate);
  const at::Tensor out32 = at::empty(out.sizes(), at::kFloat);
  matmul(a32, b32, out32);
  accumulate ? out.add_(out32) : out.copy_(out32);
}

}  // namespace

const GemmChoice& gemm_choice() {
  static const GemmChoice choice = choose();
  return choice;
}

bool has_fast_bfloat16() { return gemm_choice().bfloat16 != GemmPath::kFloat32; }

void matmul_by(GemmPath path, const at::Tensor& a, const at::Tensor& b, const at::Tensor& out,
               bool accumulate) {
  if (path == GemmPath::kFloat32) return matmul_through_float32(a, b, out, accumulate);
  if (a.scalar_type() == out.scalar_type()) return same_type_matmul(path, a, b, out, accumulate);
  const at::Tensor product = at::empty(out.sizes(), a.options());
  same_type_matmul(path, a, b, product, false);
  accumulate ? out.add_(product) : out.copy_(product);
}

void matmul(const at::Tensor& a, const at::Tensor& b, const at::Tensor& out, bool accumulate) {
  SY_CHECK(a.scalar_type() == b.scalar_type(), "matmul of {} and {}", at::toString(a.scalar_type()),
           at::toString(b.scalar_type()));
  if (out.numel() == 0) return;
  if (a.numel() == 0) {  // an empty sum
    if (!accumulate) out.zero_();
    return;
  }
  matmul_by(path_for(a, b.size(1)), a, b, out, accumulate);
}

}  // namespace switchyard
