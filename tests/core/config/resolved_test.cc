// Defaults, printing and comparison: what the resolved config of a run promises.

#include <gmock/gmock.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include "core/config/layers.h"
#include "core/config/print.h"
#include "tests/core/config/config_files.h"

namespace switchyard::config {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

// Paths of the scalars that are unset in groups that are present.
void collect_unset(const Message& message, const std::string& prefix,
                   std::vector<std::string>& paths) {
  const auto& reflection = *message.GetReflection();
  for (int i = 0; i < message.GetDescriptor()->field_count(); ++i) {
    const FieldDescriptor* field = message.GetDescriptor()->field(i);
    const std::string path = prefix + field->name();
    const bool is_group = field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE;
    if (field->is_repeated()) {
      for (int j = 0; j < reflection.FieldSize(message, field); ++j)
        collect_unset(reflection.GetRepeatedMessage(message, field, j), path + ".", paths);
    } else if (!reflection.HasField(message, field)) {
      paths.push_back(path);
    } else if (is_group) {
      collect_unset(reflection.GetMessage(message, field), path + ".", paths);
    }
  }
}

using Resolved = ConfigFiles;

TEST_F(Resolved, LeavesNothingUnsetButWhatIsUnsetOnPurpose) {
  std::vector<std::string> unset;
  RunConfig config =
      load_config(run(edited("moe {", "moe { shared_expert {} capacity { policy: BY_POSITION }")),
                  {"model.attention.latent.kv_rank=8", "model.attention.yarn.factor=2"});
  collect_unset(config, "", unset);
  EXPECT_THAT(
      unset,
      UnorderedElementsAre(
          "model_preset", "data_preset", "recipe_preset", "init_from",
          "model.attention.relative_bias", "model.mtp", "model.ffn_dropout", "mesh.data",
          "mesh.tensor", "mesh.expert", "mesh.pipeline", "mesh.expert_tensor", "mesh.context",
          // groups and fields of other architectures and objectives
          "model.lstm", "model.local_experts", "data.table", "data.spans",
          "data.synthetic.num_domains", "data.target_length",
          // what other kinds of initializer, optimizer and schedule use
          "model.init_scale", "model.init_restore_variance", "model.init_range",
          "optimizer.momentum", "optimizer.adafactor", "optimizer.hold_steps",
          "optimizer.decay_fraction",
          // what other kinds of data, positions and routing use
          "data.tokenizer", "model.attention.max_positions", "model.moe.num_devices",
          "model.moe.dead_expert_noise", "model.moe.router.noise_std",
          "model.moe.router.second_choice_threshold", "model.moe.router.later_choice_threshold",
          "model.moe.router.group_top_k", "model.moe.router.group_score_experts",
          "model.moe.router.bias_update_rate", "model.moe.capacity.rounds",
          "model.moe.capacity.exempt_share", "model.moe.capacity.second_level_factor",
          "model.moe.capacity.group_rule",
          // what depends on the processors of the job
          "runtime.float32_products", "runtime.bfloat16_products"));
}

TEST_F(Resolved, SetsWhatTheKindOfOptimizerUses) {
  std::vector<std::string> unset;
  const auto optimizer = [&](const char* kind) {
    return load_config(run(kSmallRun), {std::string("optimizer.kind=") + kind}).optimizer();
  };
  collect_unset(optimizer("ADAFACTOR"), "", unset);
  EXPECT_THAT(unset, UnorderedElementsAre("beta1", "beta2", "eps", "momentum", "hold_steps",
                                          "decay_fraction", "decay_norms", "decay_embeddings"));
  EXPECT_EQ(optimizer("ADAFACTOR").clip_norm(), 0);
  unset.clear();
  collect_unset(optimizer("SGD"), "", unset);
  EXPECT_THAT(unset, UnorderedElementsAre("beta1", "beta2", "eps", "adafactor", "hold_steps",
                                          "decay_fraction", "decay_norms", "decay_embeddings"));
  EXPECT_EQ(optimizer("SGD").weight_decay(), 0);
}

TEST_F(Resolved, GivesSyntheticTextTheSeedOfTheRunUnlessItHasItsOwn) {
  EXPECT_EQ(load_config(run(kSmallRun), {"seed=7"}).data().synthetic().seed(), 7u);
  EXPECT_EQ(
      load_config(run(kSmallRun), {"seed=7", "data.synthetic.seed=3"}).data().synthetic().seed(),
      3u);
}

TEST_F(Resolved, LeavesCapacityUnsetWhereNothingIsDropped) {
  std::vector<std::string> unset;
  collect_unset(load_config(run(kSmallRun)).model().moe().capacity(), "", unset);
  EXPECT_THAT(unset, UnorderedElementsAre("train_factor", "eval_factor", "counts_k", "minimum",
                                          "rounding", "multiple_of", "fixed_slots", "rounds",
                                          "exempt_share", "second_level_factor", "group_rule"));
}

TEST_F(Resolved, GivesCapacityALeastSizeUnlessItMustBeExact) {
  const auto minimum = [&](const std::vector<std::string>& overrides) {
    return load_config(run(kSmallRun), overrides).model().moe().capacity().minimum();
  };
  EXPECT_EQ(minimum({"model.moe.capacity.policy=BY_POSITION"}), 4);
  EXPECT_EQ(minimum({"model.moe.router.selection=STRICTLY_BALANCED",
                     "model.moe.router.weighting=RENORMALIZE_KEPT",
                     "model.moe.balance_loss.coefficient=0"}),
            0);
}

TEST_F(Resolved, DerivesDefaultsFromWhatIsSet) {
  const RunConfig config =
      load_config(run(edited("steps: 10", "steps: 1000")), {"optimizer.lr=5e-4"});
  EXPECT_EQ(config.name(), "run");
  EXPECT_EQ(config.model().attention().num_kv_heads(), 4);
  EXPECT_EQ(config.model().attention().head_dim(), 16);
  EXPECT_EQ(config.optimizer().warmup_steps(), 20);
  EXPECT_EQ(config.optimizer().min_lr(), 5e-5);
  EXPECT_EQ(config.eval().every(), 100);
  EXPECT_EQ(config.checkpoint().every_minutes(), 30);
  EXPECT_EQ(config.log().load_every(), 100);
  EXPECT_EQ(load_config(run(kSmallRun), {"log.every=30"}).log().load_every(), 120);
  EXPECT_EQ(load_config(run(kSmallRun), {"log.every=700"}).log().load_every(), 700);
}

TEST_F(Resolved, SavesAndEvaluatesByDefaultUnlessToldOtherwise) {
  const auto load = [&](const std::vector<std::string>& set) {
    return load_config(run(edited("steps: 10", "steps: 3")), set);
  };
  EXPECT_EQ(load({}).eval().every(), 1);
  EXPECT_EQ(load({"eval.every=0"}).eval().every(), 0);
  EXPECT_EQ(load({"checkpoint.every=5"}).checkpoint().every_minutes(), 0);
  EXPECT_EQ(load({"checkpoint.every_minutes=0"}).checkpoint().every_minutes(), 0);
}

TEST_F(Resolved, PrintsTextThatLoadsToTheSameConfig) {
  const RunConfig config = load_config(
      run(edited("synthetic {}", "train { path: \"d\\303\\251/\\\"x\\\"\" weight: 0.1 }")),
      {"optimizer.lr=1.23456789012345e-4", "seed=18446744073709551615"});
  const std::string text = to_text(config);
  const RunConfig again = load_config(write("again.textproto", text));
  EXPECT_THAT(differences(config, again), IsEmpty());
  EXPECT_EQ(to_text(again), text);
}

TEST_F(Resolved, TravelsAsBytes) {
  const RunConfig config = load_config(run(kSmallRun));
  EXPECT_EQ(to_text(parse(serialize(config))), to_text(config));
}

TEST_F(Resolved, NamesEveryDifference) {
  RunConfig from = load_config(run(kSmallRun)), to = from;
  EXPECT_THAT(differences(from, to), IsEmpty());
  to.mutable_optimizer()->set_lr(0.5);
  to.mutable_model()->mutable_moe()->set_top_k(1);
  to.mutable_mesh()->set_expert(2);
  to.mutable_data()->clear_synthetic();
  to.mutable_data()->add_train()->set_path("x");
  std::vector<std::string> lines;
  for (const Difference& difference : differences(from, to)) lines.push_back(difference.text());
  EXPECT_THAT(lines,
              ElementsAre("model.moe.top_k: 2 -> 1", "data.train[0].path: unset -> \"x\"",
                          "data.synthetic.num_tokens: 1048576 -> unset",
                          "data.synthetic.kind: NOISY_BIGRAMS -> unset",
                          "data.synthetic.seed: 1 -> unset", "data.synthetic: present -> absent",
                          "optimizer.lr: 0.001 -> 0.5", "mesh.expert: unset -> 2"));
}

TEST(Layers, CountsMoeLayersAsTheWalkOverLayersDoes) {
  Model model;
  for (const int num_layers : {1, 2, 5, 12}) {
    for (const int first : {0, 1, 3, 12}) {
      for (const int every : {1, 2, 3}) {
        model.set_num_layers(num_layers);
        model.mutable_moe()->set_first_layer(first);
        model.mutable_moe()->set_every_n_layers(every);
        int expected = 0;
        for (int layer = 0; layer < num_layers; ++layer) {
          EXPECT_EQ(first_router(model, layer), expected);
          expected += is_moe_layer(model, layer);
        }
        EXPECT_EQ(num_moe_layers(model), expected) << num_layers << " " << first << " " << every;
      }
    }
  }
}

TEST(Layers, CountsRoutersThroughBothStacks) {
  Model model;
  model.set_architecture(ENCODER_DECODER);
  model.set_num_layers(5);
  model.mutable_moe()->set_first_layer(1);
  model.mutable_moe()->set_every_n_layers(2);
  model.mutable_attention()->set_switch_projections(true);  // four routers to a layer
  EXPECT_EQ(first_router(model, 3), 4);
  EXPECT_EQ(first_router(model, 1, /*stack=*/1), 8);
  EXPECT_EQ(first_router(model, 3, /*stack=*/1), 12);
}

}  // namespace
}  // namespace switchyard::config
