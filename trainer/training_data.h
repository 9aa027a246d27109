#pragma once
// What a run trains on: its sources and the order of their samples.

#include <memory>

#include "core/config/run_config.pb.h"
#include "core/data/sampler.h"
#include "core/data/tokenizer.h"
#include "parallel/communicator.h"
#include "trainer/data_sources.h"

namespace switchyard::trainer {

struct TrainingData {
  std::unique_ptr<Tokenizer> tokenizer;  // null where reads_text() is false
  RunData sources;
  Blend blend;  // of sources.train
};

Blend blend_of(const config::RunConfig& config, const RunData& sources);

// **Collective.** Opens tokenizer and sources; where that fails on one rank, all throw its error.
// ConfigError where the tokenizer has more tokens than the model, else as open_data(). Requires:
// data.tokenizer is set if anything reads it.
TrainingData open_training_data(const config::RunConfig& config, parallel::Communicator& world);

}  // namespace switchyard::trainer
