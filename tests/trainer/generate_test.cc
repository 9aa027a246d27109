#include "trainer/generate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "parallel/single.h"
#include "parallel/thread.h"
#include "tests/trainer/checkpoint_fixture.h"
#include "trainer/model_instance.h"

namespace switchyard::trainer {
namespace {

// Seeds of their own stand for logits that differ in their last bits.
TEST(Generate, GivesEveryRankTheTextThatTheFirstRankDraws) {
  config::RunConfig config = debug_config();
  const auto tokenizer = load_tokenizer("bytes");
  config.mutable_model()->set_vocab_size(static_cast<int>(tokenizer->vocab_size()));
  std::vector<std::string> texts(2);
  parallel::ThreadGroup(2).run([&](parallel::Communicator& world) {
    ModelInstance instance(config, world);
    instance.parameters.initialize(3);
    SamplingOptions options{.max_tokens = 12, .temperature = 1, .top_p = 1};
    options.seed = 1 + static_cast<uint64_t>(world.rank());
    texts[static_cast<size_t>(world.rank())] =
        generate(instance, *tokenizer, "The ", options, /*on_text=*/{});
  });
  EXPECT_FALSE(texts[0].empty());
  EXPECT_EQ(texts[1], texts[0]);
}

// Positions 0 to 15 are learned; a prompt begins with the end of the document before it.
TEST(Generate, RefusesBeforehandWhatTheModelHasNoPositionsFor) {
  config::RunConfig config = debug_config();
  const auto tokenizer = load_tokenizer("bytes");
  config.mutable_model()->set_vocab_size(static_cast<int>(tokenizer->vocab_size()));
  config.mutable_model()->mutable_attention()->set_position(config::LEARNED_POSITIONS);
  config.mutable_model()->mutable_attention()->set_max_positions(16);
  const auto world = parallel::make_single();
  ModelInstance instance(config, *world);
  instance.parameters.initialize(3);
  std::string shown;
  const auto write = [&](int64_t max_tokens) {
    return generate(instance, *tokenizer, "Ten tokens", {.max_tokens = max_tokens},
                    [&](const std::string& text) { shown += text; });
  };
  EXPECT_NO_THROW(write(6));
  shown.clear();
  try {
    write(7);
    FAIL() << "17 positions of 16";
  } catch (const ConfigError& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr("7 more need 17 positions"));
    EXPECT_THAT(error.what(), ::testing::HasSubstr("has learned 16"));
  }
  EXPECT_EQ(shown, "");
}

}  // namespace
}  // namespace switchyard::trainer
