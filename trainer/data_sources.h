#pragma once
// Where a run's rows come from: the sources that a config names, and how rows are made of them.

#include <memory>
#include <string>
#include <vector>

#include "core/config/run_config.pb.h"
#include "core/data/batch_maker.h"
#include "core/data/sampler.h"
#include "core/data/tokenizer.h"
#include "parallel/communicator.h"

namespace switchyard::trainer {

struct NamedSource {
  std::string name;
  std::shared_ptr<const TokenSource> source;
};

struct RunData {
  std::shared_ptr<const BatchMaker> maker;
  std::vector<WeightedSource> train;
  std::vector<NamedSource> validation;
  std::shared_ptr<const Tokenizer> tokenizer = {};  // null unless open_training_data() found one
};

// The config with data.tokenizer set: where it was not, to the one that the first training file
// names. DataError if the file names none.
config::RunConfig with_tokenizer(config::RunConfig config);

// Whether the run learns from text, so that there is a tokenizer. Requires: data.tokenizer is set
// if anything reads it.
bool reads_text(const config::RunConfig& config);

// Opens all sources. `tokenizer` is null unless reads_text(). ConfigError if the objective needs
// more tokens than the model's vocabulary has, DataError if a source was made with another
// tokenizer.
RunData open_data(const config::RunConfig& config, const Tokenizer* tokenizer);

// **Collective.** Opens a run's tokenizer and, as open_data() does, all its sources; where one rank
// fails, all throw its error. ConfigError also where the tokenizer has more tokens than the model.
// Requires: data.tokenizer is set if anything reads it.
RunData open_training_data(const config::RunConfig& config, parallel::Communicator& world);

// A token file as this run's model would be evaluated on it. tokenizer: null where reads_text() is
// false.
std::shared_ptr<const TokenSource> open_source(const config::RunConfig& config,
                                               const Tokenizer* tokenizer, const std::string& path);

}  // namespace switchyard::trainer
