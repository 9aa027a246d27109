#include "core/tensor/gemm.h"

#include <cpuid.h>

#include <ATen/Version.h>

#include "core/base/errors.h"
#include "core/tensor/aten.h"

// Exported by libtorch_cpu, but its header is not shipped. Weak: a LibTorch without it still links,
// and the address is null. result = alpha * mat1 mat2 + beta * result; throws without AVX-512.
namespace at::native {
__attribute__((weak)) void mkldnn_matmul(const Tensor& mat1, const Tensor& mat2,
                                         const Tensor& result, float beta, float alpha);
}  // namespace at::native

namespace switchyard {
namespace {

bool onednn_takes(at::ScalarType type) {
  if (&at::native::mkldnn_matmul == nullptr) return false;
  const at::NoGradGuard no_grad;
  const at::Tensor x = at::ones({32, 32}, type), out = at::ones({32, 32}, type);
  try {
    at::native::mkldnn_matmul(x, x, out, 1.0f, 1.0f);
  } catch (const c10::Error&) {  // "needs the cpu support ..."
    return false;
  }
  return out.eq(33).all().item<bool>();
}

// "AuthenticAMD" and the like; empty where the processor does not say.
std::string maker() {
  unsigned unused = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid(0, &unused, &b, &c, &d)) return {};
  std::string text;
  for (const unsigned part : {b, d, c}) text.append(reinterpret_cast<const char*>(&part), 4);
  return text;
}

// Family and model as /proc/cpuinfo shows them.
std::string family_and_model() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid(1, &a, &b, &c, &d)) return {};
  const unsigned family = (a >> 8 & 0xF) + ((a >> 8 & 0xF) == 0xF ? (a >> 20 & 0xFF) : 0);
  const unsigned model = (a >> 4 & 0xF) + (family >= 6 ? (a >> 16 & 0xF) << 4 : 0);
  return fmt::format("{}.{}", family, model);
}

bool has_amx_bfloat16() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  constexpr unsigned kAmxBfloat16 = 1u << 22;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & kAmxBfloat16);
}

GemmPaths& paths_in_force() {
  static GemmPaths paths = fastest_gemm_paths();
  return paths;
}

GemmPath path_for(const at::Tensor& a, int64_t n) {
  if (!a.is_cpu() || a.scalar_type() == at::kDouble) return GemmPath::kAten;
  if (a.scalar_type() == at::kBFloat16) return gemm_paths().bfloat16;
  return a.numel() * n <= kSmallProduct ? GemmPath::kAten : gemm_paths().float32;
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
  const at::Tensor out32 = at::empty(out.sizes(), out.options().dtype(at::kFloat));
  matmul(a32, b32, out32);
  accumulate ? out.add_(out32) : out.copy_(out32);
}

}  // namespace

std::string processor_name() {
  return fmt::format("{} {}, {}", maker(), family_and_model(), at::get_cpu_capability());
}

bool has_onednn(at::ScalarType type) {
  static const bool float32 = onednn_takes(at::kFloat), bfloat16 = onednn_takes(at::kBFloat16);
  return type == at::kFloat ? float32 : type == at::kBFloat16 && bfloat16;
}

GemmPaths fastest_gemm_paths() {
  GemmPaths paths;
  const bool is_amd = maker() == "AuthenticAMD";
  if (is_amd && has_onednn(at::kFloat)) paths.float32 = GemmPath::kOneDnn;
  // Without instructions for bfloat16 oneDNN emulates it, and ATen's own is a naive loop.
  const bool has_instructions = __builtin_cpu_supports("avx512bf16") || has_amx_bfloat16();
  if (has_instructions && has_onednn(at::kBFloat16)) paths.bfloat16 = GemmPath::kOneDnn;
  return paths;
}

void set_gemm_paths(const GemmPaths& paths) {
  SY_CHECK(paths.float32 != GemmPath::kOneDnn || has_onednn(at::kFloat),
           "{} has no float32 products by oneDNN", processor_name());
  SY_CHECK(paths.bfloat16 != GemmPath::kOneDnn || has_onednn(at::kBFloat16),
           "{} has no bfloat16 products of its own", processor_name());
  paths_in_force() = paths;
}

const GemmPaths& gemm_paths() { return paths_in_force(); }

bool has_fast_bfloat16() { return gemm_paths().bfloat16 != GemmPath::kFloat32; }

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
