#pragma once
// Long short-term memory over the positions of a sequence (Hochreiter and Schmidhuber, 1997), with
// an optional projection of its output (Sak et al., 2014).
//
//   i, f, g, o = x W^T + h R^T + b;   c <- sigmoid(f + 1) c + sigmoid(i) tanh(g)
//   h <- sigmoid(o) tanh(c), or that times P^T
//
// The 1 keeps memory at the start of training (Jozefowicz et al., 2015).

#include <cstdint>
#include <optional>

#include <ATen/core/Tensor.h>

#include "core/tensor/parameter.h"
#include "models/layers/dense.h"

namespace switchyard::models {

// What is carried from one position to the next; undefined at the start of a sequence.
struct LstmState {
  at::Tensor hidden_BO;  // compute type
  at::Tensor cell_BU;    // float32 (float64)
};

struct LstmSizes {
  int64_t input = 0, hidden = 0;
  int64_t projection = 0;  // 0: none
  int64_t output() const { return projection > 0 ? projection : hidden; }
};

class Lstm {
 public:
  // Registers <scope>.input [4U, D], .bias [4U], .recurrent [4U, O] and, with a projection,
  // .projection [O, U].
  Lstm(const Scope& scope, const LstmSizes& sizes, double init_std);

  // x [B*S, D] -> [B*S, O]. documents [B, S] int32: the state is forgotten where a position's
  // document is not that of the one before; undefined: never. Goes on from `state` and leaves there
  // what follows the last position, unless it is null.
  at::Tensor forward(const at::Tensor& x_TD, int64_t sequences, const at::Tensor& documents_BS,
                     LstmState* state) const;

 private:
  LstmState step(const at::Tensor& input_B4U, const LstmState& state) const;

  LstmSizes sizes_;
  Dense input_, recurrent_;
  std::optional<Dense> projection_;
};

}  // namespace switchyard::models
