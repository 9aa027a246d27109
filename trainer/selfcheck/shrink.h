#pragma once
// A config's model in miniature, for `selfcheck --shrink`.

#include <string>

#include "core/config/run_config.pb.h"

namespace switchyard::trainer {

// Fewer and narrower layers, fewer experts, a small vocabulary, short sequences and few of them, on
// generated text; but the same kinds of layers, and everything that the config chooses. Valid on
// `ranks` ranks. Tables and pairs of texts stay as they are. ConfigError where a rule forbids the
// small sizes.
config::RunConfig shrunk(config::RunConfig config, int ranks);

// The sizes in one line.
std::string describe_sizes(const config::RunConfig& config);

}  // namespace switchyard::trainer
