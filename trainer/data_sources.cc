#include "trainer/data_sources.h"

#include "core/data/synthetic_source.h"
#include "core/data/token_file.h"

namespace switchyard::trainer {
namespace {

// Part 0 of the endless walk is for training, part 1 for validation: the same language, other text.
std::shared_ptr<const TokenSource> synthetic(const config::RunConfig& config, int64_t part) {
  const int64_t tokens = config.data().synthetic().num_tokens();
  return std::make_shared<SyntheticSource>(tokens, config.model().vocab_size(), config.seed(),
                                           part * tokens);
}

}  // namespace

Blend training_blend(const config::RunConfig& config) {
  std::vector<WeightedSource> sources;
  if (config.data().has_synthetic()) {
    sources.push_back({synthetic(config, 0), 1.0});
  }
  for (const auto& source : config.data().train()) {
    sources.push_back(
        {TokenFile::open(source.path(), config.model().vocab_size()), source.weight()});
  }
  return Blend(std::move(sources), config.data().sequence_length(), config.seed());
}

std::vector<NamedSource> validation_sources(const config::RunConfig& config) {
  std::vector<NamedSource> sources;
  if (config.data().has_synthetic()) sources.push_back({"synthetic", synthetic(config, 1)});
  for (const auto& source : config.data().validation()) {
    sources.push_back({source.name(), TokenFile::open(source.path(), config.model().vocab_size())});
  }
  return sources;
}

}  // namespace switchyard::trainer
