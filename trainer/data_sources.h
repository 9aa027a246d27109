#pragma once
// Where a run's rows come from: the sources that a config names, and how rows are made of them.

#include <memory>
#include <string>
#include <vector>

#include "core/config/run_config.pb.h"
#include "core/data/batch_maker.h"
#include "core/data/sampler.h"
#include "core/data/tokenizer.h"

namespace switchyard::trainer {

struct NamedSource {
  std::string name;
  std::shared_ptr<const TokenSource> source;
};

struct RunData {
  std::shared_ptr<const BatchMaker> maker;
  std::vector<WeightedSource> train;
  std::vector<NamedSource> validation;
};

// Whether the run learns from text, so that there is a tokenizer.
bool reads_text(const config::RunConfig& config);

// Opens all sources. `tokenizer` is null unless reads_text(). ConfigError if the objective needs
// more tokens than the model's vocabulary has.
RunData open_data(const config::RunConfig& config, const Tokenizer* tokenizer);

// A token file as this run's model would be evaluated on it. tokenizer: null where reads_text() is
// false.
std::shared_ptr<const TokenSource> open_source(const config::RunConfig& config,
                                               const Tokenizer* tokenizer, const std::string& path);

}  // namespace switchyard::trainer
