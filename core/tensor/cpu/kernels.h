#pragma once
// The inner loops of the fused operations, on raw rows. Each is compiled for several instruction
// sets and chosen when the program is loaded. T is float, double or BFloat16; arithmetic and
// statistics are in Exact<T>. Free of LibTorch; single-threaded.

#include <cstdint>
#include <type_traits>

#include "core/tensor/activation.h"

namespace switchyard {

struct BFloat16 {
  uint16_t bits;
};

template <typename T>
using Exact = std::conditional_t<std::is_same_v<T, double>, double, float>;

// out = act(gate) * up, n elements; without `up` where the activation is not gated.
template <typename T>
void activation_forward(Activation kind, const T* gate, const T* up, T* out, int64_t n);

// Gradients of activation_forward, and its output again, which the second product's weight gradient
// needs. d_out and out may be the same memory.
template <typename T>
struct ActivationBackward {
  const T* gate;
  const T* up;
  const T* d_out;
  T* d_gate;
  T* d_up;
  T* out;
};
template <typename T>
void activation_backward(Activation kind, const ActivationBackward<T>& rows, int64_t n);

// y = x * r * weight with r = 1 / sqrt(mean(x^2) + eps); returns r. cast_first: x * r is rounded to
// T before it meets the weight.
template <typename T>
Exact<T> rms_norm_forward(const T* x, const T* weight, T* y, double eps, bool cast_first,
                          int64_t n);

// dx for one row; adds the row's share of the weight gradient to d_weight unless it is null.
template <typename T>
struct RmsNormBackward {
  const T* x;
  const T* weight;
  const T* dy;
  Exact<T> r;
  T* dx;
  Exact<T>* d_weight;
};
template <typename T>
void rms_norm_backward(const RmsNormBackward<T>& row, int64_t n);

// Rotates the pairs (x[i], x[i + half]) by the angles whose cosines and sines are given.
template <typename T>
void rope_row(const T* x, const Exact<T>* cos, const Exact<T>* sin, T* y, int64_t half);

template <typename T>
struct CrossEntropy {
  Exact<T> nll;      // -log softmax(logits)[target]
  Exact<T> log_sum;  // logsumexp(logits)
};
template <typename T>
CrossEntropy<T> cross_entropy(const T* logits, int64_t n, int64_t target);

// Returns what cross_entropy() does, and overwrites logits with the gradient of scale * (nll +
// z_coefficient * log_sum^2).
template <typename T>
CrossEntropy<T> cross_entropy_backward(T* logits, int64_t n, int64_t target, double scale,
                                       double z_coefficient);

// sum += x, n elements.
template <typename T>
void add_to(Exact<T>* sum, const T* x, int64_t n);

}  // namespace switchyard
