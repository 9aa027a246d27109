#pragma once
// Matrix products: which library computes them. The choice is a function of the processor, or the
// user's; a measurement would give two processes other sums. It never costs precision. MKL does not
// use AVX-512 on AMD processors, where oneDNN is 1.1 (Zen 4) to 2.2 times (Zen 5) as fast in
// float32; bfloat16 without instructions for it is far slower than converting to float32.

#include <cstdint>
#include <string>

#include <ATen/core/Tensor.h>

namespace switchyard {

enum class GemmPath : uint8_t {
  kAten,     // at::mm: MKL for float32
  kOneDnn,   // oneDNN, called directly; needs AVX-512
  kFloat32,  // operands converted to float32, then as float32
};

struct GemmPaths {
  GemmPath float32 = GemmPath::kAten;      // of products of more than kSmallProduct
  GemmPath bfloat16 = GemmPath::kFloat32;  // float64 is always kAten
  bool operator==(const GemmPaths&) const = default;
};

// m * n * k up to which a product stays with ATen: below, oneDNN's cost per call decides.
inline constexpr int64_t kSmallProduct = 64 * 64 * 64;

// The processor as far as it decides bits: maker, family and model, and the vector instructions
// that LibTorch's own kernels use, such as "AuthenticAMD 25.17, AVX512". The environment variables
// ATEN_CPU_CAPABILITY=avx2 and ONEDNN_MAX_CPU_ISA=AVX2 together make a processor with AVX-512 one
// without.
std::string processor_name();

// Whether oneDNN multiplies matrices of this type here.
bool has_onednn(at::ScalarType type);

// The paths that suit this processor: the same on every processor of its kind.
GemmPaths fastest_gemm_paths();

// The paths of all later products of this process; fastest_gemm_paths() until they are set. Not
// while other threads multiply. Requires: this processor has them.
void set_gemm_paths(const GemmPaths& paths);
const GemmPaths& gemm_paths();

// Whether bfloat16 is multiplied by the processor's own instructions. If not, LibTorch's own
// bfloat16 code (attention) is far slower than the same in float32.
bool has_fast_bfloat16();

// out = a b, or out += a b when `accumulate`. a [m, k] and b [k, n] of one type, transposed views
// welcome; out [m, n] contiguous, of the same type or float32 for bfloat16 operands. Legal for
// zero sizes. Outside autograd.
void matmul(const at::Tensor& a, const at::Tensor& b, const at::Tensor& out,
            bool accumulate = false);

// matmul() by a given path, for measurements.
void matmul_by(GemmPath path, const at::Tensor& a, const at::Tensor& b, const at::Tensor& out,
               bool accumulate);

}  // namespace switchyard
