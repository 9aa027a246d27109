#include "core/config/reader.h"

#include <gmock/gmock.h>
#include <google/protobuf/descriptor.h>

#include "tests/core/config/config_files.h"

namespace switchyard::config {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

using Reader = ConfigFiles;

TEST_F(Reader, NamesAnUnknownFieldWithItsPlaceAndTheNearestName) {
  EXPECT_EQ(error(edited("num_experts", "num_expert")),
            "run.textproto:6:9: model.moe has no field \"num_expert\"; nearest: \"num_experts\"");
}

TEST_F(Reader, ReportsEveryProblemOfEveryKindAtOnce) {
  const std::string message =
      error("modle {}\n" + edited("d_model: 64", "d_model: 65\n  ffn: SWIGLUU\n  d_model: 3"),
            {"train.step=4", "optimizer.lr=-1"});
  EXPECT_THAT(message, HasSubstr("run.textproto:1:1: the config has no field \"modle\"; nearest: "
                                 "\"model\"\n"));
  EXPECT_THAT(message, HasSubstr("run.textproto:5:8: model.ffn must be one of Ffn's names, got "
                                 "\"SWIGLUU\"; nearest: \"SWIGLU\"\n"));
  EXPECT_THAT(message, HasSubstr("run.textproto:6:3: model.d_model is set twice, first at "));
  EXPECT_THAT(message, HasSubstr("--set \"train.step=4\": train has no field \"step\"; nearest: "
                                 "\"steps\"\n"));
  EXPECT_THAT(message, HasSubstr("--set: optimizer.lr (-1) must be finite and above 0"));
  EXPECT_THAT(message, HasSubstr("run.textproto:8:15: model.attention.num_heads (4) must divide"
                                 " model.d_model (65)"));
}

TEST_F(Reader, RefusesAFieldThatIsNoMore) {
  EXPECT_THAT(error(edited("steps: 10", "steps: 10 task: PRETRAIN")),
              HasSubstr("run.textproto:9:19: train has no field \"task\""));
}

TEST_F(Reader, DoesNotAskForAFieldThatAMistakeHides) {
  EXPECT_THAT(error(edited("num_layers", "num_layer")), Not(HasSubstr("is not set")));
}

TEST_F(Reader, ReportsWrongTypesWithLineAndColumn) {
  EXPECT_EQ(error(edited("num_layers: 2", "num_layers: 2.5")),
            "run.textproto:2:15: model.num_layers must be a 32-bit integer, got \"2.5\"");
  EXPECT_EQ(error(edited("num_layers: 2", "num_layers: 3000000000")),
            "run.textproto:2:15: model.num_layers must be a 32-bit integer, got \"3000000000\"");
  EXPECT_EQ(error(edited("num_layers: 2", "num_layers: \"2\"")),
            "run.textproto:2:15: model.num_layers must be a 32-bit integer, got \"\"2\"\"");
  EXPECT_EQ(error("seed: -1\n" + kSmallRun),
            "run.textproto:1:7: seed must be a non-negative integer, got \"-1\"");
  EXPECT_EQ(error("name: run\n" + kSmallRun),
            "run.textproto:1:7: name must be a text in quotes, got \"run\"");
  EXPECT_EQ(error("eval: 3\n" + kSmallRun),
            "run.textproto:1:7: eval is a group of fields; write eval { ... }");
  EXPECT_EQ(error("seed { a: 1 }\n" + kSmallRun),
            "run.textproto:1:6: expected \":\" after seed, "
            "got \"{\"");
  EXPECT_EQ(error("seed: { a: 1 }\n" + kSmallRun),
            "run.textproto:1:7: seed must be one value, got \"{\"");
}

TEST_F(Reader, RefusesEnumsByNumberAndTheUnsetValue) {
  EXPECT_EQ(
      error(edited("num_layers: 2", "num_layers: 2 ffn: 1")),
      "run.textproto:2:22: model.ffn must be one of Ffn's names, got \"1\"; one of: SWIGLU, GEGLU, "
      "GEGLU_TANH, REGLU, RELU, GELU, SQUARED_RELU");
  EXPECT_THAT(error(edited("num_layers: 2", "num_layers: 2 ffn: FFN_UNSPECIFIED")),
              HasSubstr("FFN_UNSPECIFIED stands for \"unset\": leave the field out"));
}

TEST_F(Reader, RefusesNumbersThatAreNotFinite) {
  for (const std::string value : {"nan", "inf", "-inf", "1e999", "NaN", "infinity"})
    EXPECT_THAT(error("optimizer { lr: " + value + " }\n" + kSmallRun),
                HasSubstr("run.textproto:1:17: optimizer.lr must be a finite number, got"))
        << value;
}

TEST_F(Reader, SaysWhereABrokenFileEnds) {
  EXPECT_EQ(error("model {\n  d_model: 4\n"),
            "run.textproto:3:1: expected a field's name or the end of model, got the end of the "
            "file");
  EXPECT_EQ(error("model {\n  d_model: }\n"),
            "run.textproto:2:12: expected a value for model.d_model, got \"}\"");
  EXPECT_THAT(error("name: \"x\n"), HasSubstr("run.textproto:1:9: "));
}

TEST_F(Reader, RefusesFilesThatHoldNothing) {
  for (const std::string text : {"", "\n\n", "# only a comment\n"})
    EXPECT_EQ(error(text),
              "run.textproto:1:1: the file sets nothing; start from configs/debug.textproto");
}

TEST_F(Reader, RefusesInvalidUtf8WithItsPlace) {
  EXPECT_EQ(error("seed: 1\nname: \"\xC3(\"\n"),
            "run.textproto:2:8: byte 0xc3 is not valid UTF-8; save the file as UTF-8");
  EXPECT_EQ(error("name: \"\\xff\"\n" + kSmallRun),
            "run.textproto:1:7: name must be valid UTF-8, got \"\\xff\"");
}

TEST_F(Reader, RefusesLargeAndDeepFilesBeforeReadingThem) {
  EXPECT_EQ(error(std::string((1 << 20) + 1, ' ')),
            "run.textproto: larger than 1048576 bytes, the most a config may have");
  std::string deep = "x ";
  for (int i = 0; i < 10000; ++i) deep += "{ x ";
  EXPECT_THAT(error(deep), HasSubstr("expected at most 32 levels of nesting"));
}

TEST_F(Reader, CutsAFileOfNoiseShort) {
  std::string noise;
  for (int i = 0; i < 1000; ++i) noise += "a: 1\n";
  EXPECT_THAT(error(noise), HasSubstr("run.textproto: 950 more problems"));
}

TEST_F(Reader, NamesAMissingFile) {
  try {
    load_config("nowhere/run.textproto");
    FAIL() << "no exception";
  } catch (const ConfigError& failure) {
    EXPECT_STREQ(failure.what(), "nowhere/run.textproto: no such file");
  }
}

TEST_F(Reader, KeepsShellSyntaxAsText) {
  const RunConfig config = load_config(run("output_dir: \"$(touch x) `id` $HOME\"\n" + kSmallRun));
  EXPECT_EQ(config.output_dir(), "$(touch x) `id` $HOME");
}

TEST_F(Reader, AsksForEveryFieldWithoutADefault) {
  const std::string message = error("model { moe {} }\ndata { train {} }\n");
  for (const char* path : {"model.num_layers", "model.d_model", "model.vocab_size",
                           "model.attention.num_heads", "model.moe.num_experts", "model.moe.d_ff",
                           "train.steps", "train.global_batch", "data.train[0].path"})
    EXPECT_THAT(message, HasSubstr(std::string(path) + " is not set"));
}

// ---- Presets ----

const char kModel[] =
    "num_layers: 3\nd_model: 32\nvocab_size: 264\nattention { num_heads: 2 }\n"
    "moe { num_experts: 8 top_k: 1 d_ff: 16 }\n";
const char kRest[] = "data { synthetic {} }\ntrain { steps: 1 global_batch: 2 }\n";

TEST_F(Reader, MergesAPresetUnderTheRunsOwnFields) {
  write("models/small.textproto", kModel);
  const RunConfig config = load_config(
      run("model_preset: \"small\"\nmodel { moe { top_k: 2 } }\n" + std::string(kRest)));
  EXPECT_EQ(config.model().num_layers(), 3);
  EXPECT_EQ(config.model().moe().num_experts(), 8);
  EXPECT_EQ(config.model().moe().top_k(), 2);
  EXPECT_EQ(config.model().moe().router().weighting(), RENORMALIZE);
  EXPECT_FALSE(config.has_model_preset());
}

TEST_F(Reader, ReplacesAListOfAPresetAndKeepsTheOther) {
  std::filesystem::create_directories(folder_ / "configs" / "data");
  write("data/two.textproto",
        "train { path: \"a\" } train { path: \"b\" } validation { path: \"v\" }");
  write("models/small.textproto", kModel);
  const RunConfig config =
      load_config(run("model_preset: \"small\" data_preset: \"two\"\n"
                      "data { train { path: \"c\" } }\ntrain { steps: 1 global_batch: 2 }\n"));
  ASSERT_EQ(config.data().train_size(), 1);
  EXPECT_EQ(config.data().train(0).path(), "c");
  EXPECT_EQ(config.data().validation(0).path(), "v");
}

TEST_F(Reader, NamesThePresetsFileInItsErrors) {
  write("models/small.textproto", "d_modl: 3\n" + std::string(kModel));
  EXPECT_THAT(error("model_preset: \"small\"\n" + std::string(kRest)),
              HasSubstr("models/small.textproto:1:1: model has no field \"d_modl\"; nearest: "
                        "\"d_model\""));
}

TEST_F(Reader, LoadsEveryConfigOfTheProject) {
  for (const char* folder : {"configs", "configs/claims"}) {
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
      if (entry.path().extension() != ".textproto") continue;
      EXPECT_NO_THROW(load_config(entry.path().string())) << entry.path();
    }
  }
}

TEST_F(Reader, LocatesABrokenRuleInThePresetThatSetTheField) {
  write("models/small.textproto", "norm_eps: 0\n" + std::string(kModel));
  EXPECT_THAT(error("model_preset: \"small\"\n" + std::string(kRest)),
              HasSubstr("models/small.textproto:1:1: model.norm_eps (0) must be"));
}

TEST_F(Reader, NamesTheNearestPreset) {
  write("models/mixtral.textproto", kModel);
  EXPECT_THAT(
      error("model_preset: \"mixtrl\"\n" + std::string(kRest)),
      HasSubstr("model_preset is \"mixtrl\", but no configs/models/mixtrl.textproto exists; "
                "nearest: \"mixtral\""));
  EXPECT_THAT(error("model_preset: \"../secret\"\n" + std::string(kRest)),
              HasSubstr("model_preset must be a name of letters"));
}

// ---- Overrides ----

TEST_F(Reader, SetsAnyScalarFromTheCommandLine) {
  const RunConfig config =
      load_config(run(kSmallRun), {"model.moe.top_k=1", "mesh.expert=2", "name=one two",
                                   "output_dir=\"a\\x41\"", "runtime.compute=BF16",
                                   "model.moe.capacity.policy=BY_POSITION", "optimizer.lr=2e-4"});
  EXPECT_EQ(config.model().moe().top_k(), 1);
  EXPECT_EQ(config.model().moe().router().weighting(), RAW);
  EXPECT_EQ(config.mesh().expert(), 2);
  EXPECT_EQ(config.name(), "one two");
  EXPECT_EQ(config.output_dir(), "aA");
  EXPECT_EQ(config.runtime().compute(), BF16);
  EXPECT_EQ(config.optimizer().lr(), 2e-4);
}

TEST_F(Reader, SetsElementsOfListsAndAddsTheNext) {
  const std::string text = edited("synthetic {}", "train { path: \"a\" }");
  const RunConfig config =
      load_config(run(text), {"data.train[0].weight=2", "data.train[1].path=dir/b"});
  EXPECT_EQ(config.data().train(0).weight(), 2);
  EXPECT_EQ(config.data().train(1).name(), "b");
  EXPECT_THAT(error(text, {"data.train[2].path=c"}), HasSubstr("is past the end"));
  EXPECT_THAT(error(text, {"data.train.path=c"}), HasSubstr("data.train is a list"));
  EXPECT_THAT(error(text, {"data[0].tokenizer=c"}), HasSubstr("data[0] is not a list"));
}

TEST_F(Reader, SetsElementsOfListsOfPlainValues) {
  const auto features = [&](const std::vector<std::string>& overrides) {
    const auto list = load_config(run(kTableRun), overrides).data().table().features();
    return std::vector<std::string>(list.begin(), list.end());
  };
  EXPECT_THAT(features({"data.table.features[0]=A"}), ElementsAre("A", "F2"));
  EXPECT_THAT(features({"data.table.features[1]=\"B\""}), ElementsAre("F1", "B"));
  EXPECT_THAT(features({"data.table.features[2]=C", "data.table.features[3]=\"D\"",
                        "data.table.features[0]=A"}),
              ElementsAre("A", "F2", "C", "D"));
  EXPECT_EQ(error(kTableRun, {"data.table.features[3]=C"}),
            "--set \"data.table.features[3]=C\": data.table.features[3] is past the end: the list "
            "has 2 element(s), 2 is the next to add");
  EXPECT_EQ(
      error(kTableRun, {"data.table.features[1]=\"B"}),
      "--set \"data.table.features[1]=\"B\": data.table.features[1] must be a text in quotes, "
      "got \"\"B\"");
  EXPECT_THAT(error(kTableRun, {"data.table.features=C"}),
              HasSubstr("data.table.features is a list; write data.table.features[0]"));
  EXPECT_THAT(error(kTableRun, {"data.table.features[0].x=C"}),
              HasSubstr("data.table.features[0] is a single value and has no fields"));
}

TEST_F(Reader, LetsTheLastOverrideWin) {
  EXPECT_EQ(load_config(run(kSmallRun), {"train.steps=3", "train.steps=4"}).train().steps(), 4);
}

TEST_F(Reader, RefusesAnOverrideThatWouldSetMoreThanItsField) {
  EXPECT_EQ(
      error(kSmallRun, {"model.num_layers=8 d_model=3"}),
      "--set \"model.num_layers=8 d_model=3\": model.num_layers must be a 32-bit integer, got "
      "\"8 d_model=3\"");
  EXPECT_THAT(error(kSmallRun, {"model.num_layers=8 d_model: 3"}), HasSubstr("must be a 32-bit"));
  EXPECT_THAT(error(kSmallRun, {"name=\"a\" seed: 3"}), HasSubstr("name must be a text"));
}

TEST_F(Reader, ExplainsOverridesThatNameNoScalar) {
  EXPECT_THAT(error(kSmallRun, {"model.moe.topk=2"}), HasSubstr("nearest: \"top_k\""));
  EXPECT_THAT(error(kSmallRun, {"mesh.zzzzzz=2"}), HasSubstr("one of: data, tensor, expert"));
  EXPECT_THAT(error(kSmallRun, {"mesh=2"}),
              HasSubstr("mesh is a group of fields; set one of them"));
  EXPECT_THAT(error(kSmallRun, {"seed.x=2"}), HasSubstr("seed is a single value"));
  EXPECT_THAT(error(kSmallRun, {"seed"}), HasSubstr("must be path=value"));
  EXPECT_THAT(error(kSmallRun, {"seed="}), HasSubstr("seed must be a non-negative integer"));
  EXPECT_THAT(error(kSmallRun, {"model..d_model=2"}), HasSubstr("has no field \"\""));
  EXPECT_THAT(error(kSmallRun, {"runtime.compute=2"}), HasSubstr("must be one of ComputeType's"));
  EXPECT_THAT(error(kSmallRun, {"optimizer.lr=nan"}), HasSubstr("must be a finite number"));
}

class Recipe : public ConfigFiles {
 protected:
  Recipe() {
    std::filesystem::create_directories(folder_ / "configs" / "recipes");
    write("models/small.textproto", kModel);
    write("recipes/fast.textproto",
          "train { steps: 9 global_batch: 4 }\n"
          "optimizer { lr: 0.5 weight_decay: 0.25 schedule: CONSTANT warmup_steps: 0 }\n"
          "schedule { field: \"optimizer.lr\" point { step: 3 value: 0.125 } }\n");
  }
  static inline const std::string kRun = "model_preset: \"small\" data { synthetic {} }\n";
};

TEST_F(Recipe, IsMergedUnderTheWholeRun) {
  const RunConfig config =
      load_config(run(kRun + "recipe_preset: \"fast\" optimizer { lr: 2 } train { steps: 7 }"));
  EXPECT_EQ(config.optimizer().lr(), 2);
  EXPECT_EQ(config.optimizer().weight_decay(), 0.25);
  EXPECT_EQ(config.train().steps(), 7);
  EXPECT_EQ(config.train().global_batch(), 4);
  ASSERT_EQ(config.schedule_size(), 1);
  EXPECT_EQ(config.schedule(0).point(0).value(), 0.125);
  EXPECT_FALSE(config.has_recipe_preset());
}

TEST_F(Recipe, ComesFromTheCommandLineToo) {
  const RunConfig config = load_config(run(kRun), {"recipe_preset=fast", "optimizer.lr=3"});
  EXPECT_EQ(config.optimizer().lr(), 3);
  EXPECT_EQ(config.train().steps(), 9);
}

TEST_F(Recipe, GivesWayToTheRunsOwnScheduleOfAField) {
  const auto with = [&](const std::string& field) {
    return load_config(run(kRun + "recipe_preset: \"fast\" schedule { field: \"" + field +
                           "\" point { tokens: 1 value: 0.0625 } }"));
  };
  const RunConfig both = with("optimizer.weight_decay");
  ASSERT_EQ(both.schedule_size(), 2);
  EXPECT_EQ(both.schedule(0).field(), "optimizer.lr");
  EXPECT_EQ(both.schedule(1).field(), "optimizer.weight_decay");
  const RunConfig own = with("optimizer.lr");
  ASSERT_EQ(own.schedule_size(), 1);
  EXPECT_EQ(own.schedule(0).point(0).value(), 0.0625);
}

TEST_F(Recipe, MayNameTheModelButNoOtherRecipe) {
  write("recipes/whole.textproto",
        "model_preset: \"small\" train { steps: 1 global_batch: 2 } data { synthetic {} }");
  EXPECT_EQ(load_config(run("recipe_preset: \"whole\"")).model().num_layers(), 3);
  write("recipes/nested.textproto", "seed: 1\nrecipe_preset: \"fast\"");
  EXPECT_THAT(error(kRun + "recipe_preset: \"nested\""),
              HasSubstr("recipes/nested.textproto:2:1: recipe_preset must not be set in a file "
                        "that it names itself"));
}

TEST_F(Recipe, IsNamedByTheNearestName) {
  EXPECT_THAT(error(kRun + "recipe_preset: \"fst\""),
              HasSubstr("no configs/recipes/fst.textproto exists; nearest: \"fast\""));
}

TEST_F(Reader, TakesAPresetFromTheCommandLine) {
  write("models/small.textproto", kModel);
  EXPECT_EQ(load_config(run(kRest), {"model_preset=small", "model.d_model=48"}).model().d_model(),
            48);
}

}  // namespace
}  // namespace switchyard::config
