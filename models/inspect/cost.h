#pragma once
// Floating-point operations of a model. They follow from the census: every matrix is one product
// per token; only attention's scores have a formula of their own. Requires a config that was
// validated.

#include <cstdint>
#include <string>
#include <vector>

#include "core/config/run_config.pb.h"
#include "models/inspect/census.h"

namespace switchyard::models {

struct FlopTerm {
  std::string name;
  double flops;
};

// The tokens of a sequence. In an encoder-decoder `sequence` is the source, which counts as the
// tokens of a run, and `target` the decoder's side; it is 0 elsewhere.
struct SequenceLengths {
  int64_t sequence;
  int64_t target = 0;
};
SequenceLengths sequence_lengths(const config::RunConfig& config);

// Forward, per token, all layers of a kind together; a multiply-add is 2. A component's matrices
// cost twice their active parameters, a tied output matrix included. attention_scores: queries
// times keys and weights times values, over half of the sequence (causal) or what its window shows.
// What a router drops or pads does not change these. In an encoder-decoder a source token bears its
// share of the target.
std::vector<FlopTerm> forward_flops(const config::Model& model, const SequenceLengths& lengths);
// Of the layers `held` of a decoder and of what comes with them, all terms together.
double forward_flops(const config::Model& model, const SequenceLengths& lengths, const Slice& held);

// Training, per token: 3 x forward, as backward computes two products for each of forward's.
// Recompute is not counted: these are the model's operations, not the machine's.
double flops_per_token(const config::Model& model, const SequenceLengths& lengths);

// How long the whole run takes, without evaluation and saving, if its ranks together reach
// `product_rate` FLOP/s in plain matrix products: steps reach about half of that
// (docs/results/step.md).
double estimated_seconds(const config::RunConfig& config, double product_rate);

}  // namespace switchyard::models
