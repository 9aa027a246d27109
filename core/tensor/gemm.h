#pragma once
// Matrix products: which library computes them is chosen once per process, never at the price of
// precision. MKL does not use AVX-512 on AMD processors, where oneDNN is twice as fast in float32;
// bfloat16 without AVX-512 is far slower than converting to float32.

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace switchyard {

enum class GemmPath : uint8_t {
  kAten,     // at::mm: MKL for float32
  kOneDnn,   // oneDNN, called directly
  kFloat32,  // operands converted to float32, then as float32
};

struct GemmChoice {
  GemmPath float32 = GemmPath::kAten;         // for products of more than kSmallProduct
  GemmPath bfloat16 = GemmPath::kAten;        // float64 is always kAten
  double aten_gflops = 0, onednn_gflops = 0;  // float32, measured; 0: this path does not run here
};

// m * n * k up to which a product stays with ATen: below, oneDNN's cost per call decides.
inline constexpr int64_t kSmallProduct = 64 * 64 * 64;

// Measured at the first call, a few milliseconds, with the threads set by then.
const GemmChoice& gemm_choice();

// Whether the machine multiplies bfloat16 at full speed. If not, LibTorch's own bfloat16 code
// (attention) is far slower than the same in float32.
bool has_fast_bfloat16();

// out = a b, or out += a b when `accumulate`. a [m, k] and b [k, n] of one type, transposed views
// welcome; out [m, n] contiguous, of the same type or float32 for bfloat16 operands. Legal for
// zero sizes. Outside autograd.
void matmul(const at::Tensor& a, const at::Tensor& b, const at::Tensor& out,
            bool accumulate = false);

// Same by a given path, for measurements.
void matmul_by(GemmPath path, const at::Tensor& a, const at::Tensor& b, const at::Tensor& out,
               bool accumulate);

}  // namespace switchyard
