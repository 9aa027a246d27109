#pragma once
// The nonlinearities of feed-forward networks.

#include <cstdint>

namespace switchyard {

// A gated one multiplies a second product in: act(x w1) * (x w3).
enum class Activation : uint8_t {
  kSwiglu,       // gated silu
  kGeglu,        // gated x Phi(x), Phi the normal distribution function
  kGegluTanh,    // gated x sigmoid(2 sqrt(2/pi) (x + 0.044715 x^3)), the tanh formula of GELU
  kReglu,        // gated max(x, 0)
  kRelu,         // max(x, 0)
  kGelu,         // x Phi(x)
  kSquaredRelu,  // max(x, 0)^2
};

constexpr bool is_gated(Activation kind) { return kind <= Activation::kReglu; }

}  // namespace switchyard
