#pragma once
// What layers do with their parameters, on tensors of any device. Gradients of parameters are
// accumulated straight into Parameter::grad; gradients of inputs go through autograd. All are
// differentiable, deterministic, and legal for zero rows.

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "core/tensor/activation.h"
#include "core/tensor/parameter.h"

namespace switchyard {

// x [..., in] times weight [out, in] transposed -> [..., out].
at::Tensor linear(const at::Tensor& x, Parameter& weight);

// Linear with a matrix for each expert, weight [e, out, in], on expert-major rows: expert i owns
// rows offsets[i] .. offsets[i+1]. rows [R, in] -> [R, out].
at::Tensor linear_experts(const at::Tensor& rows, Parameter& weight,
                          const std::vector<int64_t>& offsets);

// Rows of weight [V, D] for ids [...] int64 -> [..., D].
at::Tensor embedding(const at::Tensor& ids, Parameter& weight);

// In bfloat16, whether the normalised value is rounded once, after the weight, or also before it.
enum class NormOrder : uint8_t { kScaleThenCast, kCastThenScale };

// x / sqrt(mean(x^2) + eps) * weight over the last dimension; statistics in float32 (float64 for
// float64 input). The gradient is that of the unrounded function in either order.
at::Tensor rms_norm(const at::Tensor& x, Parameter& weight, double eps,
                    NormOrder order = NormOrder::kScaleThenCast);

// Rotary position embedding in the half-split ("NeoX") layout: x [B, S, H, d] with d even, cos and
// sin [S, d/2] float.
at::Tensor rope(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin);

// The matrices of a stack of feed-forward networks; a dense one is a stack of one, whose parameters
// may lack the first dimension.
struct FfnWeights {
  Parameter* in;               // w1 [e, F, D]; gated: w1 above w3 [e, 2F, D]
  Parameter* out;              // w2 [e, D, F]
  Parameter* scale = nullptr;  // [e, F]; null: none
  Parameter* shift = nullptr;  // [e, F]; null: none
};

// Feed-forward networks of a stack of experts on expert-major rows: expert i owns rows offsets[i]
// .. offsets[i+1].
//   y = ((act(x w1^T) [* (x w3^T)]) * scale + shift) * mask w2^T
// rows [R, D]; offsets [e+1], offsets[e] = R; mask [R, F], a constant (dropout) of the rows' type
// or float32, with which products are rounded once; undefined: none -> [R, D]. Saves x and the
// first product; the activation is computed again in backward.
at::Tensor ffn_experts(const at::Tensor& rows, const FfnWeights& weights, Activation activation,
                       const std::vector<int64_t>& offsets, const at::Tensor& mask = {});

// The parameter as a tensor of autograd's graph, cast to `type`: for small parameters and plain
// ATen code. The gradient of a large one would exist twice for a moment.
at::Tensor use(Parameter& parameter, at::ScalarType type);
// use() of the master copy, where the compute type would hide small differences.
at::Tensor use_master(Parameter& parameter, at::ScalarType type);

}  // namespace switchyard
