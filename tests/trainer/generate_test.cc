#include "trainer/generate.h"

#include <gtest/gtest.h>

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

}  // namespace
}  // namespace switchyard::trainer
