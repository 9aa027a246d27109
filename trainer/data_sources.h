#pragma once
// The token sources that a config names.

#include <memory>
#include <string>
#include <vector>

#include "core/config/run_config.pb.h"
#include "core/data/sampler.h"

namespace switchyard::trainer {

struct NamedSource {
  std::string name;
  std::shared_ptr<const TokenSource> source;
};

Blend training_blend(const config::RunConfig& config);
std::vector<NamedSource> validation_sources(const config::RunConfig& config);

}  // namespace switchyard::trainer
