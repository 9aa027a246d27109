#pragma once
// Loss and routing on held-out text: no noise, no jitter, evaluation capacity, ranks in lockstep.

#include <cstdint>
#include <string>
#include <vector>

#include "core/config/run_config.pb.h"
#include "core/data/tokenizer.h"
#include "models/pass/context.h"
#include "models/pass/stats.h"
#include "trainer/data_sources.h"
#include "trainer/model_instance.h"

namespace switchyard::trainer {

struct SourceResult {
  std::string name;
  double loss = 0;  // mean over targets, in nats
  int64_t targets = 0;
  int64_t text_bytes = 0;                    // of the targets' text; 0 without a tokenizer
  std::vector<models::RoutingStats> layers;  // per router, over all ranks
  parallel::NamedSums sums;                  // what the model reports, over all ranks

  // Loss of all targets, end-of-document tokens included, over the bytes of text. 0 without a
  // tokenizer.
  double bits_per_byte() const;
};

// **Collective** over the mesh. At most `max_sequences` rows of each validation source (0: all).
// tokenizer may be null.
std::vector<SourceResult> evaluate(const config::RunConfig& config, ModelInstance& instance,
                                   const RunData& data, const Tokenizer* tokenizer,
                                   int64_t max_sequences);

// The mean loss of all sources together, weighted by targets, in nats.
double mean_loss(const std::vector<SourceResult>& results);

// I(source; expert) in bits for one layer, sources weighted equally: how much an expert says about
// the source.
double mutual_information(const std::vector<SourceResult>& results, size_t layer);

// Tables for the terminal: loss per source, and which experts each source uses.
std::string loss_table(const std::vector<SourceResult>& results);
std::string expert_table(const std::vector<SourceResult>& results);

}  // namespace switchyard::trainer
