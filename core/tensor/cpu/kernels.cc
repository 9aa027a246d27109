#include "core/tensor/cpu/kernels.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>

// The loader picks the clone for this CPU. Sanitizers instrument the picker before they are ready,
// and Clang, which builds this for scripts/fuzz alone, has no clones of templates.
#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && \
    !defined(__clang__)
#define SY_VECTOR_CLONES \
  __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define SY_VECTOR_CLONES
#endif
// Into every clone, with its instruction set.
#define SY_ALWAYS_INLINE __attribute__((always_inline))
#define SY_INLINE inline SY_ALWAYS_INLINE

namespace switchyard {
namespace {

SY_INLINE float load(float x) { return x; }
SY_INLINE double load(double x) { return x; }
SY_INLINE float load(BFloat16 x) { return std::bit_cast<float>(uint32_t{x.bits} << 16); }

SY_INLINE void store(float& out, float x) { out = x; }
SY_INLINE void store(double& out, double x) { out = x; }
// Round to nearest, ties to even; a NaN stays one.
SY_INLINE void store(BFloat16& out, float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  const uint32_t nan = bits >> 16 | 0x40;
  out.bits = static_cast<uint16_t>((bits & 0x7fffffff) > 0x7f800000 ? nan : rounded);
}

// e^x without a branch, so that loops vectorise; relative error below 1e-7 (Cephes' polynomial).
// Below -87.3 it stays at the smallest normal number; NaN gives NaN.
SY_INLINE float exponential(float x) {
  x = x < -87.3f ? -87.3f : x;
  x = x > 88.3f ? 88.3f : x;
  constexpr float kRoundToInteger = 12582912.0f;  // 1.5 * 2^23
  const float n = (x * 1.44269504f + kRoundToInteger) - kRoundToInteger;
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;  // x - n log 2, in two parts
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  return p * std::bit_cast<float>((static_cast<int32_t>(n) + 127) << 23);
}
SY_INLINE double exponential(double x) { return std::exp(x); }

// Sum of f(i) over i in [0, n) with a fixed set of partial sums: vectorises without reassociation
// by the compiler, so every instruction set adds in the same order.
constexpr int64_t kLanes = 32;
template <typename A, typename F>
SY_INLINE A lane_sum(int64_t n, F&& f) {
  std::array<A, kLanes> lanes{};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) lanes[lane] += f(i + lane);
  }
  A rest = 0;
  for (; i < n; ++i) rest += f(i);
  for (const A& lane : lanes) rest += lane;
  return rest;
}

template <typename T>
SY_INLINE Exact<T> row_max(const T* x, int64_t n) {
  using A = Exact<T>;
  std::array<A, kLanes> lanes;
  lanes.fill(-std::numeric_limits<A>::infinity());
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      const A value = load(x[i + lane]);
      lanes[lane] = value > lanes[lane] ? value : lanes[lane];
    }
  }
  A best = *std::max_element(lanes.begin(), lanes.end());
  for (; i < n; ++i) best = std::max<A>(best, load(x[i]));
  return best;
}

// The normal distribution function at x, given e^(-x^2/2); absolute error below 1e-7 (Abramowitz
// and Stegun 7.1.26).
SY_INLINE float normal_cdf(float x, float gaussian) {
  const float z = x < 0 ? -x : x;
  const float t = 1.0f / (1.0f + 0.3275911f * 0.70710678f * z);
  float p = 1.061405429f;
  p = p * t - 1.453152027f;
  p = p * t + 1.421413741f;
  p = p * t - 0.284496736f;
  p = p * t + 0.254829592f;
  const float tail = 0.5f * p * t * gaussian;
  return x < 0 ? tail : 1.0f - tail;
}
SY_INLINE double normal_cdf(double x, double) { return 0.5 * std::erfc(-x * 0.70710678118654752); }

// Value and derivative of a nonlinearity at x.
template <typename A>
struct Curve {
  A value, slope;
};

struct Silu {
  template <typename A>
  static SY_INLINE Curve<A> at(A x) {
    const A sigmoid = A(1) / (A(1) + exponential(-x));
    const A value = x * sigmoid;
    return {value, sigmoid + value * (A(1) - sigmoid)};
  }
};

struct Gelu {
  template <typename A>
  static SY_INLINE Curve<A> at(A x) {
    const A gaussian = exponential(A(-0.5) * x * x);
    const A cdf = normal_cdf(x, gaussian);
    return {x * cdf, cdf + x * gaussian * A(0.39894228040143268)};  // 1 / sqrt(2 pi)
  }
};

struct GeluTanh {
  template <typename A>
  static SY_INLINE Curve<A> at(A x) {
    const A c = A(1.5957691216057308);  // 2 sqrt(2 / pi)
    const A cubic = A(0.044715) * x * x;
    const A sigmoid = A(1) / (A(1) + exponential(-c * x * (A(1) + cubic)));
    const A value = x * sigmoid;
    return {value, sigmoid + value * (A(1) - sigmoid) * c * (A(1) + A(3) * cubic)};
  }
};

struct Relu {
  template <typename A>
  static SY_INLINE Curve<A> at(A x) {
    return {x > 0 ? x : A(0), x > 0 ? A(1) : A(0)};
  }
};

struct SquaredRelu {
  template <typename A>
  static SY_INLINE Curve<A> at(A x) {
    const A positive = x > 0 ? x : A(0);
    return {positive * positive, A(2) * positive};
  }
};

// f(the activation's curve).
template <typename F>
SY_INLINE void with_curve(Activation kind, F&& f) {
  switch (kind) {
    case Activation::kSwiglu:
      return f(Silu());
    case Activation::kGeglu:
    case Activation::kGelu:
      return f(Gelu());
    case Activation::kGegluTanh:
      return f(GeluTanh());
    case Activation::kReglu:
    case Activation::kRelu:
      return f(Relu());
    case Activation::kSquaredRelu:
      return f(SquaredRelu());
  }
}

template <typename F, typename T>
SY_INLINE void gated_forward(const T* gate, const T* up, T* out, int64_t n) {
  for (int64_t i = 0; i < n; ++i) store(out[i], F::at(load(gate[i])).value * load(up[i]));
}

template <typename F, typename T>
SY_INLINE void plain_forward(const T* x, T* out, int64_t n) {
  for (int64_t i = 0; i < n; ++i) store(out[i], F::at(load(x[i])).value);
}

template <typename F, typename T>
SY_INLINE void gated_backward(const ActivationBackward<T>& rows, int64_t n) {
  const T *gate = rows.gate, *up = rows.up, *d_out = rows.d_out;
  T *d_gate = rows.d_gate, *d_up = rows.d_up, *out = rows.out;
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) {
    const Exact<T> u = load(up[i]), d = load(d_out[i]);
    const auto act = F::at(load(gate[i]));
    store(d_up[i], d * act.value);
    store(d_gate[i], d * u * act.slope);
    store(out[i], act.value * u);
  }
}

template <typename F, typename T>
SY_INLINE void plain_backward(const ActivationBackward<T>& rows, int64_t n) {
  const T *x = rows.gate, *d_out = rows.d_out;
  T *dx = rows.d_gate, *out = rows.out;
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) {
    const auto act = F::at(load(x[i]));
    store(dx[i], load(d_out[i]) * act.slope);
    store(out[i], act.value);
  }
}

}  // namespace

template <typename T>
SY_VECTOR_CLONES void activation_forward(Activation kind, const T* gate, const T* up, T* out,
                                         int64_t n) {
  with_curve(kind, [=](auto curve) SY_ALWAYS_INLINE {
    using F = decltype(curve);
    is_gated(kind) ? gated_forward<F>(gate, up, out, n) : plain_forward<F>(gate, out, n);
  });
}

template <typename T>
SY_VECTOR_CLONES void activation_backward(Activation kind, const ActivationBackward<T>& rows,
                                          int64_t n) {
  with_curve(kind, [&](auto curve) SY_ALWAYS_INLINE {
    using F = decltype(curve);
    is_gated(kind) ? gated_backward<F>(rows, n) : plain_backward<F>(rows, n);
  });
}

template <typename T>
SY_VECTOR_CLONES Exact<T> rms_norm_forward(const T* x, const T* weight, T* y, double eps,
                                           bool cast_first, int64_t n) {
  using A = Exact<T>;
  const A squares =
      lane_sum<A>(n, [=](int64_t i) SY_ALWAYS_INLINE { return load(x[i]) * load(x[i]); });
  const A r = A(1) / std::sqrt(squares / static_cast<A>(n) + static_cast<A>(eps));
  if (cast_first && !std::is_same_v<T, A>) {
    for (int64_t i = 0; i < n; ++i) store(y[i], load(x[i]) * r);
    for (int64_t i = 0; i < n; ++i) store(y[i], load(y[i]) * load(weight[i]));
  } else {
    for (int64_t i = 0; i < n; ++i) store(y[i], load(x[i]) * r * load(weight[i]));
  }
  return r;
}

template <typename T>
SY_VECTOR_CLONES void rms_norm_backward(const RmsNormBackward<T>& row, int64_t n) {
  using A = Exact<T>;
  const T *x = row.x, *weight = row.weight, *dy = row.dy;
  const A r = row.r;
  const A dot = lane_sum<A>(
      n, [=](int64_t i) SY_ALWAYS_INLINE { return load(dy[i]) * load(weight[i]) * load(x[i]); });
  const A along = dot * r * r / static_cast<A>(n);
  T* dx = row.dx;
  for (int64_t i = 0; i < n; ++i) {
    store(dx[i], r * (load(dy[i]) * load(weight[i]) - load(x[i]) * along));
  }
  if (A* d_weight = row.d_weight) {
    for (int64_t i = 0; i < n; ++i) d_weight[i] += load(dy[i]) * load(x[i]) * r;
  }
}

template <typename T>
SY_VECTOR_CLONES void rope_row(const T* x, const Exact<T>* cos, const Exact<T>* sin, T* y,
                               int64_t half) {
  for (int64_t i = 0; i < half; ++i) {
    const Exact<T> a = load(x[i]), b = load(x[i + half]), s = sin[i];
    store(y[i], a * cos[i] - b * s);
    store(y[i + half], b * cos[i] + a * s);
  }
}

template <typename T>
SY_VECTOR_CLONES CrossEntropy<T> cross_entropy(const T* logits, int64_t n, int64_t target) {
  using A = Exact<T>;
  const A top = row_max(logits, n);
  const A sum = lane_sum<A>(
      n, [=](int64_t i) SY_ALWAYS_INLINE { return exponential(load(logits[i]) - top); });
  const A log_sum = std::log(sum) + top;
  return {log_sum - load(logits[target]), log_sum};
}

template <typename T>
SY_VECTOR_CLONES CrossEntropy<T> cross_entropy_backward(T* logits, int64_t n, int64_t target,
                                                        double scale, double z_coefficient) {
  using A = Exact<T>;
  const A top = row_max(logits, n);
  const A sum = lane_sum<A>(
      n, [=](int64_t i) SY_ALWAYS_INLINE { return exponential(load(logits[i]) - top); });
  const A at_target = load(logits[target]) - top;
  const A log_sum = std::log(sum) + top;
  // d(log_sum) = softmax: the z-loss only makes the probabilities' factor larger.
  const A factor = static_cast<A>(scale * (1 + 2 * z_coefficient * log_sum)) / sum;
  for (int64_t i = 0; i < n; ++i) store(logits[i], exponential(load(logits[i]) - top) * factor);
  store(logits[target], exponential(at_target) * factor - static_cast<A>(scale));
  return {std::log(sum) - at_target, log_sum};
}

template <typename T>
SY_VECTOR_CLONES void add_to(Exact<T>* sum, const T* x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) sum[i] += load(x[i]);
}

#define SY_INSTANTIATE(T)                                                                \
  template void activation_forward(Activation, const T*, const T*, T*, int64_t);         \
  template void activation_backward(Activation, const ActivationBackward<T>&, int64_t);  \
  template Exact<T> rms_norm_forward(const T*, const T*, T*, double, bool, int64_t);     \
  template void rms_norm_backward(const RmsNormBackward<T>&, int64_t);                   \
  template void rope_row(const T*, const Exact<T>*, const Exact<T>*, T*, int64_t);       \
  template CrossEntropy<T> cross_entropy(const T*, int64_t, int64_t);                    \
  template CrossEntropy<T> cross_entropy_backward(T*, int64_t, int64_t, double, double); \
  template void add_to(Exact<T>*, const T*, int64_t)
SY_INSTANTIATE(float);
SY_INSTANTIATE(double);
SY_INSTANTIATE(BFloat16);
#undef SY_INSTANTIATE

}  // namespace switchyard
