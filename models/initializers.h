#pragma once
// How the matrices of a model start, where the config asks for another rule than a fixed standard
// deviation.

#include <ATen/core/Tensor.h>

#include "core/config/run_config.pb.h"
#include "core/tensor/parameter.h"

namespace switchyard::models {

// Replaces the normal initialisation of every parameter by the rule of model.initializer; constants
// stay, and what is the parameter's own. Call after the model has registered its parameters and
// before they are initialised.
//
// TRUNCATED_NORMAL: standard deviation sqrt(init_scale / inputs), where a weight [..., out, in] has
// `in` inputs; a parameter that asked for a multiple of model.init_std gets that multiple of it.
// The cut narrows the distribution to 0.88 of that, which init_restore_variance undoes. Embeddings
// are looked up, not multiplied, and start as N(0, 1); relative position biases as
// Mesh-TensorFlow has them, uniform with variance 2 / (buckets + heads).
void choose_initializers(const config::Model& model, ParameterTable& table);

// What an embedding that is also the output matrix is multiplied with, from the last hidden rows
// [..., D]: divided by sqrt(D) where embeddings start as N(0, 1), as in T5, since their products
// with rows of unit size would be logits of standard deviation sqrt(D); else the rows as they are.
// The token that was read keeps a logit of up to sqrt(D), since its own embedding is in the row.
// Every model with tied embeddings passes its rows through here, in training and in generation.
at::Tensor for_output(const at::Tensor& hidden, const config::Model& model);

}  // namespace switchyard::models
