#include "trainer/generate.h"

#include <cstdlib>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/errors.h"
#include "core/config/reader.h"
#include "core/tensor/aten.h"
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
    EXPECT_THAT(error.what(), ::testing::HasSubstr("and 7 more are asked for"));
    EXPECT_THAT(error.what(), ::testing::HasSubstr("has learned 16 positions"));
  }
  EXPECT_EQ(shown, "");
}

// Of an encoder, which compares all tokens with one another.
TEST(Generate, RefusesAPromptThatNeedsMoreMemoryThanThereIs) {
  config::RunConfig config =
      config::load_config(std::string(std::getenv("SY_TEST_ROOT")) + "/configs/debug.textproto",
                          {"model.architecture=ENCODER_DECODER"});
  const auto tokenizer = load_tokenizer("bytes");
  config.mutable_model()->set_vocab_size(static_cast<int>(tokenizer->vocab_size()));
  const auto world = parallel::make_single();
  ModelInstance instance(config, *world);
  const std::string prompt(10'000'000, 'a');
  try {
    generate(instance, *tokenizer, prompt, {.max_tokens = 1}, {});
    FAIL() << "1.6 PB";
  } catch (const ConfigError& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr("has 10000001 tokens, for which the encoder"));
  }
}

// Every token of the prompt, in whatever blocks, decides the next.
TEST(Generate, ReadsALongPromptAsIfAtOnce) {
  const auto config =
      config::load_config(std::string(std::getenv("SY_TEST_ROOT")) + "/configs/debug.textproto",
                          {"model.init_std=0.3"});
  const auto tokenizer = load_tokenizer("bytes");
  const auto world = parallel::make_single();
  ModelInstance instance(config, *world);
  instance.parameters.initialize(3);
  for (const size_t length : {500u, 511u, 512u, 1300u}) {
    std::string prompt;
    for (size_t i = 0; i < length; ++i) prompt += static_cast<char>('a' + i * i % 26);
    std::vector<int64_t> tokens{tokenizer->end_of_document()};
    for (const int32_t token : tokenizer->encode(prompt)) tokens.push_back(token);
    models::StepContext context;
    context.generating = true;
    context.group_tokens = static_cast<int64_t>(tokens.size());
    models::TextState state;
    const at::NoGradGuard no_grad;
    const at::Tensor logits = instance.model.text().next_logits(
        at::tensor(tokens, at::kLong).unsqueeze(0), context, state);
    const auto likeliest = static_cast<int32_t>(logits[0].argmax().item<int64_t>());
    EXPECT_EQ(generate(instance, *tokenizer, prompt, {.max_tokens = 1, .temperature = 0}, {}),
              tokenizer->decode(std::vector{likeliest}))
        << length;
  }
}

// The likeliest text of a model whose experts matter, with these changes to the debug config.
std::string text_of(std::vector<std::string> changes) {
  changes.insert(changes.end(), {"model.init_std=0.3", "model.moe.num_experts=8"});
  const auto config = config::load_config(
      std::string(std::getenv("SY_TEST_ROOT")) + "/configs/debug.textproto", changes);
  const auto world = parallel::make_single();
  ModelInstance instance(config, *world);
  instance.parameters.initialize(3);
  return generate(instance, *load_tokenizer("bytes"), "The quick brown fox",
                  {.max_tokens = 40, .temperature = 0}, /*on_text=*/{});
}

struct Limits {
  const char* name;
  std::vector<std::string> with, without;  // a limit of the experts' capacity
};
void PrintTo(const Limits& limits, std::ostream* out) { *out << limits.name; }

struct GenerateWithLimits : ::testing::TestWithParam<Limits> {};

TEST_P(GenerateWithLimits, WritesWhatItWouldWithout) {
  const std::string expected = text_of(GetParam().without);
  EXPECT_GT(expected.size(), 4u);
  EXPECT_EQ(text_of(GetParam().with), expected);
}

std::vector<Limits> all_limits() {
  const std::string policy = "model.moe.capacity.policy=", none = "model.moe.capacity.minimum=0",
                    four = "model.moe.capacity.minimum=4",
                    tight = "model.moe.capacity.eval_factor=0.5",
                    ahead = "model.moe.allow_future=true", one = "model.moe.top_k=1",
                    raw = "model.moe.router.weighting=RAW",
                    pairs = "model.architecture=ENCODER_DECODER",
                    chosen = "model.moe.router.selection=EXPERT_CHOICE",
                    least = "model.moe.capacity.minimum=1";
  const std::vector<std::string> levels = {
      "model.moe.router.hierarchy=TWO_LEVEL_BY_IMPORTANCE", "model.moe.router.num_groups=2",
      "model.moe.router.group_top_k=2", "model.moe.top_k=4", "model.moe.z_loss_coefficient=0"};
  const auto and_more = [](std::vector<std::string> some, const std::vector<std::string>& more) {
    some.insert(some.end(), more.begin(), more.end());
    return some;
  };
  return {
      {"ByPosition", {policy + "BY_POSITION", tight, none}, {}},
      {"ByPositionWithAMinimum", {policy + "BY_POSITION", tight, four}, {}},
      {"BatchPrioritized", {policy + "BATCH_PRIORITIZED", tight, none, ahead}, {}},
      {"ByProbability", {policy + "BY_PROBABILITY", tight, none, ahead}, {}},
      {"AtRandomOrder", {policy + "AT_RANDOM_ORDER", tight, none}, {}},
      {"DeviceBudget", {policy + "DEVICE_BUDGET", "model.moe.num_devices=2"}, {}},
      {"NextFree", {policy + "NEXT_FREE", tight, none, one}, {one, raw}},
      {"ByImportance", and_more({policy + "BY_POSITION", tight, none}, levels), levels},
      {"EncoderDecoder", {pairs, policy + "BY_POSITION", tight, none}, {pairs}},
      {"ExpertChoice", {pairs, chosen, tight, none}, {pairs, chosen, tight, least}},
      {"ExpertChoiceAhead", {chosen, ahead, tight, none}, {chosen, ahead, tight, least}},
  };
}

INSTANTIATE_TEST_SUITE_P(Policies, GenerateWithLimits, ::testing::ValuesIn(all_limits()),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace switchyard::trainer
