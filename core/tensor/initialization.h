#pragma once
// Initial values of parameters, drawn by counter: each is a function of the generator and of the
// element's place in the whole tensor, so that every layout starts with the same numbers.

#include "core/base/random.h"
#include "core/tensor/parameter.h"

namespace switchyard {

// Fills the piece of the master copy as its part's `init` says. Requires: allocated memory.
void initialize_piece(Parameter& parameter, const Piece& piece, const Random& random);

}  // namespace switchyard
