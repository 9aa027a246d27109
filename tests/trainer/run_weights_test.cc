// What can be done with a run's weights beside going on: other runs that start from them, and
// evaluation with another config.

#include <filesystem>

#include "tests/trainer/run_fixture.h"

namespace switchyard::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

struct Weights : RunTest {
  // All tests share this run's settings, so that its weights are known.
  void train_base() { expect_trained({.run = "base", .set = {"train.steps=4"}}); }
  std::string weights_of(const std::string& run, int step) const {
    return read_file(
        file(fmt::format("{}/checkpoints/step_{}/weights-00000-of-00001.safetensors", run, step)));
  }
  TrainCall from_base(const std::string& run, const Arguments& set = {}) const {
    return {.run = run, .set = set, .extra = {"--init-from", file("base")}};
  }
};

// A rate so small that no weight changes.
TEST_F(Weights, StartANewRunThatTakesNothingElse) {
  train_base();
  TrainCall call =
      from_base("new", {"train.steps=1", "optimizer.lr=1e-30", "optimizer.warmup_steps=0", "seed=9",
                        "optimizer.kind=SGD", "model.moe.z_loss_coefficient=0.1"});
  EXPECT_THAT(train(call), EndsWithCode(0, "from the start, with the weights of " +
                                               file("base/checkpoints/step_4")));
  ASSERT_FALSE(weights_of("base", 4).empty());
  EXPECT_TRUE(weights_of("new", 1) == weights_of("base", 4));
  EXPECT_EQ(metrics("new").front()["step"], 1);
  call.run = "two_ranks";
  call.ranks = 2;
  expect_trained(call);
  EXPECT_NEAR(losses("two_ranks").at(1), losses("new").at(1), 1e-5);
  // The same command goes on, even where the weights are gone; --resume never does not.
  std::filesystem::remove_all(file("base"));
  call = {.run = "new", .set = call.set, .extra = call.extra};
  EXPECT_THAT(train(call), EndsWithCode(0, "resumed at step 1"));
  call.extra.insert(call.extra.end(), {"--resume", "never"});
  EXPECT_THAT(train(call), EndsWithCode(4, "already holds a checkpoint of step 1"));
  EXPECT_THAT(train(from_base("other")),
              EndsWithCode(4, file("base") + ": there is no checkpoint"));
}

TEST_F(Weights, OfAnotherModelAreRefusedTensorByTensor) {
  train_base();
  const Outcome outcome =
      train(from_base("new", {"model.moe.d_ff=32", "model.mtp.weight=0.3",
                              "model.moe.shared_expert.count=1", "model.num_layers=1"}));
  EXPECT_THAT(outcome, EndsWithCode(4, "base/checkpoints/step_4:"));
  EXPECT_THAT(outcome.output, AllOf(HasSubstr("missing tensor"), HasSubstr("unexpected tensor"),
                                    HasSubstr("the model needs")));
}

TEST_F(Weights, AreEvaluatedWithWhatARunThatGoesOnMayChange) {
  train_base();
  const auto loss = [&](const Arguments& set) {
    Arguments arguments{"eval", file("base"), "--sequences", "32", "--json"};
    for (const std::string& assignment : set)
      arguments.insert(arguments.end(), {"--set", assignment});
    const Outcome outcome = call(arguments);
    EXPECT_EQ(outcome.code, 0) << outcome.output;
    return nlohmann::json::parse(outcome.output)["loss"].get<double>();
  };
  const std::string policy = "model.moe.capacity.policy=BY_POSITION";
  const double dropless = loss({});
  EXPECT_EQ(loss({policy, "model.moe.capacity.eval_factor=9"}), dropless);
  EXPECT_NE(loss({policy, "model.moe.capacity.eval_factor=0.3"}), dropless);
  for (const char* command : {"eval", "generate"}) {
    EXPECT_THAT(call({command, file("base"), "--set", "model.attention.rope_theta=500"}),
                EndsWithCode(2, "model.attention.rope_theta: 10000 -> 500, but the weights in "));
    EXPECT_THAT(
        call({command, file("base"), "--set", policy, "--set", "model.moe.capacity.eval_factor=0"}),
        EndsWithCode(2, "eval_factor (0) must be"));
  }
  EXPECT_THAT(call({"eval", file("base"), "--set", "mesh.expert=4"}), EndsWithCode(2, "expert"));
  // What the other policy does not read goes with it.
  expect_trained({.run = "capped", .set = {policy, "train.steps=2"}});
  const Arguments dropless_eval{"eval", file("capped"), "--set",
                                "model.moe.capacity.policy=NO_DROP"};
  EXPECT_THAT(call(dropless_eval), EndsWithCode(0, "perplexity"));
  Arguments with_factor = dropless_eval;
  with_factor.insert(with_factor.end(), {"--set", "model.moe.capacity.eval_factor=1"});
  EXPECT_THAT(call(with_factor), EndsWithCode(2, "eval_factor"));
  EXPECT_THAT(call({"eval", file("base"), "--set", "eval.sequences=4"}),
              EndsWithCode(2, "give --sequences"));
}

}  // namespace
}  // namespace switchyard::testing
