#pragma once
// How the matrices of a model start, where the config asks for another rule than a fixed standard
// deviation.

#include "core/config/run_config.pb.h"
#include "core/tensor/parameter.h"

namespace switchyard::models {

// Replaces the normal initialisation of every parameter by the rule of model.initializer, but for
// constants and what is marked Init::is_own. Call after the model has registered its parameters and
// before they are initialised.
//
// TRUNCATED_NORMAL: standard deviation sqrt(init_scale / inputs), where a weight [..., out, in] has
// `in` inputs; a parameter that asked for a multiple of model.init_std gets that multiple of it.
// The cut narrows the distribution to 0.88 of that, which init_restore_variance undoes. Embeddings
// are looked up, not multiplied, and start as N(0, 1); relative position biases as
// Mesh-TensorFlow has them, uniform with variance 2 / (buckets + heads).
void choose_initializers(const config::Model& model, ParameterTable& table);

// What the last hidden rows are divided by before they are multiplied with the matrix of the
// logits: sqrt(D) where that matrix is also an embedding that starts as N(0, 1), as in T5, since
// its products with rows of unit size would be logits of standard deviation sqrt(D); else 1. The
// token that was read keeps a logit of up to sqrt(D), since its own embedding is in the row.
double output_divisor(const config::Model& model);

}  // namespace switchyard::models
