#include "trainer/training_data.h"

#include <fmt/format.h>

#include "core/base/errors.h"
#include "trainer/agreement.h"

namespace switchyard::trainer {
namespace {

std::unique_ptr<Tokenizer> open_tokenizer(const config::RunConfig& config) {
  if (!reads_text(config)) return nullptr;
  auto tokenizer = load_tokenizer(config.data().tokenizer());
  if (tokenizer->vocab_size() > config.model().vocab_size()) {
    throw ConfigError(fmt::format(
        "model.vocab_size ({}) must be at least the {} tokens of data.tokenizer \"{}\"; raise it",
        config.model().vocab_size(), tokenizer->vocab_size(), config.data().tokenizer()));
  }
  return tokenizer;
}

}  // namespace

Blend blend_of(const config::RunConfig& config, const RunData& sources) {
  return Blend(sources.train, sources.maker->sample_tokens(), config.seed());
}

TrainingData open_training_data(const config::RunConfig& config, parallel::Communicator& world) {
  auto tokenizer = make_on_all(world, "open tokenizer", [&] { return open_tokenizer(config); });
  RunData sources =
      make_on_all(world, "open data", [&] { return open_data(config, tokenizer.get()); });
  Blend blend = blend_of(config, sources);
  return {std::move(tokenizer), std::move(sources), std::move(blend)};
}

}  // namespace switchyard::trainer
