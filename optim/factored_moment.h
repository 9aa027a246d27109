#pragma once
// The second moment of a gradient, kept for a matrix as the means of its rows and columns:
//   V = row column^T / mean(row)
// Shazeer and Stern (2018), Adafactor, section 3; Shazeer et al. (2017), appendix D. The expert
// dimension of a stack is a batch dimension: every expert has a factored moment of its own, so that
// the result does not depend on which ranks hold which experts; and the means of a matrix whose
// rows or columns are dealt over ranks are those of the whole matrix.

#include <vector>

#include "optim/optimizer.h"

namespace switchyard::optim {

class FactoredMoment {
 public:
  // Starts at zero. A matrix both of whose sides are at least `least_dim` is factored; else (and
  // for a vector) the whole moment is kept. It has numbers where this rank has the master.
  // The mesh must outlive it.
  FactoredMoment(const Parameter& parameter, int64_t least_dim, const parallel::Mesh& mesh);

  // **Collective** over the axes that a factored matrix is cut over, as root() is.
  // moment <- decay * moment + (1 - decay) * (gradient^2 + epsilon).
  void accumulate(const at::Tensor& gradient, double decay, double epsilon);
  // sqrt(V), in the parameter's shape.
  at::Tensor root() const;

  bool is_factored() const { return is_factored_; }
  // Appends row_moment [E, n] and column_moment [E, m] of a stack [E, n, m], or second_moment.
  void append_state(std::vector<StateTensor>& state) const;

 private:
  // **Collective** over the axis that dimension `dim` is cut over, if any: the mean over that
  // dimension, counted from the end, of means over what each rank holds of it.
  at::Tensor over_ranks(at::Tensor mean, int64_t dim) const;

  const Parameter* parameter_;
  const parallel::Mesh* mesh_;
  bool is_factored_;
  at::Tensor row_, column_;  // of a factored moment, with the expert dimension where there is one
  at::Tensor whole_;         // of any other
};

}  // namespace switchyard::optim
