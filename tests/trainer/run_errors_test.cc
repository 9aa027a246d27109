// What the command line refuses, with which exit code and which words; and what it answers without
// a run.

#include <algorithm>

#include <fmt/format.h>

#include "tests/trainer/run_fixture.h"

namespace switchyard::testing {
namespace {

using ::testing::HasSubstr;

struct CommandLine : RunTest {
  std::string debug_config() const { return project("configs/debug.textproto"); }
};

TEST_F(CommandLine, SaysItsVersion) {
  EXPECT_THAT(call({"--version"}), EndsWithCode(0, "switchyard "));
}

TEST_F(CommandLine, RefusesWhatItDoesNotKnow) {
  EXPECT_THAT(call({"trian"}), EndsWithCode(2, "trian"));
  EXPECT_THAT(call({}), EndsWithCode(2, "subcommand"));
  EXPECT_THAT(call({"train"}), EndsWithCode(2, "config"));
  EXPECT_THAT(call({"train", file("none.textproto")}), EndsWithCode(2, "none.textproto"));
}

TEST_F(CommandLine, RefusesNumbersOutOfRange) {
  const Arguments tokenize{"tokenize", debug_config(), "--tokenizer", "bytes"};
  const Arguments routing{"inspect",      "routing",  "--router",
                          "mixtral_8x7b", "--logits", file("logits.csv")};
  for (const auto& [command, option] : std::vector<std::pair<Arguments, std::string>>{
           {{"eval", file("run")}, "--sequences=-5"},
           {{"generate", file("run")}, "--max-tokens=-1"},
           {tokenize, "--vocab-size=-300"},
           {tokenize, "--sample-mb=0"},
           {tokenize, "--threads=-1"},
           {routing, "--group-tokens=-4"}}) {
    Arguments arguments = command;
    arguments.push_back(option);
    EXPECT_THAT(call(arguments), EndsWithCode(2, option.substr(0, option.find('='))));
  }
}

TEST_F(CommandLine, ReportsAllErrorsOfAConfigAtTheirPlaces) {
  const std::string path = file("bad.textproto");
  write_file(path, read_file(debug_config()) + "\nmodle { }\ntrain { stesp: 3 }\n");
  const int lines = static_cast<int>(std::ranges::count(read_file(debug_config()), '\n'));
  for (const int ranks : {1, 2}) {
    const Outcome outcome = call({"train", path}, ranks);
    EXPECT_THAT(outcome, EndsWithCode(2, fmt::format("{}:{}:1", path, lines + 2)));
    EXPECT_THAT(outcome.output, HasSubstr("\"model\""));
    EXPECT_THAT(outcome.output, HasSubstr(fmt::format("{}:{}:9", path, lines + 3)));
    EXPECT_THAT(outcome.output, HasSubstr("\"steps\""));
  }
}

TEST_F(CommandLine, RefusesMoreChoicesThanExperts) {
  const Outcome outcome = train({.run = "k", .set = {"model.moe.top_k=5"}});
  EXPECT_THAT(outcome, EndsWithCode(2, "model.moe.top_k (5)"));
  EXPECT_THAT(outcome.output, HasSubstr("model.moe.num_experts (4)"));
}

TEST_F(CommandLine, RefusesBadOverrides) {
  EXPECT_THAT(train({.run = "x", .set = {"model.moe.topk=1"}}), EndsWithCode(2, "\"top_k\""));
  EXPECT_THAT(train({.run = "x", .set = {"train.steps=many"}}), EndsWithCode(2, "train.steps"));
  EXPECT_THAT(train({.run = "x", .set = {"optimizer.lr=nan"}}), EndsWithCode(2, "optimizer.lr"));
  EXPECT_THAT(train({.run = "x", .set = {"train.steps"}}), EndsWithCode(2, "--set"));
}

TEST_F(CommandLine, RefusesAMeshThatDoesNotFit) {
  EXPECT_THAT(train({.run = "x", .ranks = 2, .set = {"mesh.expert=4"}}), EndsWithCode(2, "mesh"));
}

// A path below a regular file: not even root can make it.
TEST_F(CommandLine, NamesAFolderThatCannotBeMade) {
  write_file(file("plain"), "");
  for (const int ranks : {1, 2}) {
    EXPECT_THAT(train({.run = "run", .ranks = ranks, .set = {"output_dir=" + file("plain/below")}}),
                EndsWithCode(7, file("plain")));
  }
}

TEST_F(CommandLine, InspectsAConfigForPrograms) {
  const Outcome outcome = call({"inspect", debug_config(), "--json"});
  ASSERT_THAT(outcome, EndsWithCode(0, ""));
  const auto json = nlohmann::json::parse(outcome.output);
  EXPECT_GT(json.at("parameters").at("total"), json.at("parameters").at("active"));
  EXPECT_GT(json.at("flops_per_token"), 0);
}

// Numbers in a checkpoint, by whether they are an optimizer's.
struct Numbers {
  explicit Numbers(const std::string& manifest) {
    const auto json = nlohmann::json::parse(manifest);
    for (const auto& [name, tensor] : json.at("tensors").items()) {
      int64_t count = 1;
      for (const auto& extent : tensor["shape"]) count *= extent.get<int64_t>();
      (name.find('/') != std::string::npos ? moments : parameters) += count;
    }
  }
  int64_t parameters = 0, moments = 0;
};

TEST_F(CommandLine, InspectsAsManyNumbersAsACheckpointHolds) {
  for (const std::string kind : {"ADAMW", "SGD", "ADAFACTOR", "ADAM_FACTORED_EXPERTS"}) {
    Arguments set{"optimizer.kind=" + kind};
    if (kind == "SGD") set.push_back("optimizer.momentum=0.9");
    if (kind == "ADAFACTOR") set.push_back("optimizer.adafactor.least_factored_dim=16");
    Arguments inspect{"inspect", debug_config(), "--json"};
    for (const std::string& assignment : set) inspect.insert(inspect.end(), {"--set", assignment});
    const Outcome outcome = call(inspect);
    ASSERT_THAT(outcome, EndsWithCode(0, ""));
    const auto json = nlohmann::json::parse(outcome.output);

    set.push_back("train.steps=2");
    expect_trained({.run = kind, .set = set});
    const Numbers numbers(read_file(file(kind + "/checkpoints/step_2/manifest.json")));
    EXPECT_EQ(json["parameters"]["total"], numbers.parameters) << kind;
    EXPECT_EQ(json["memory_per_rank"]["moment_bytes"], numbers.moments * sizeof(float)) << kind;
  }
}

TEST_F(CommandLine, RefusesToMeasureAStepWithoutItsData) {
  EXPECT_THAT(call({"bench", "step", config_for(file("nowhere")), "--steps", "1"}),
              EndsWithCode(3, file("nowhere.bin: there is no such file")));
}

TEST_F(CommandLine, MeasuresAStepAgainstTheMemoryOfItsMesh) {
  const auto number = [&](const Arguments& arguments, const char* group, const char* name,
                          int ranks) {
    const Outcome outcome = call(arguments, ranks);
    EXPECT_THAT(outcome, EndsWithCode(0, name));
    const auto json = nlohmann::json::parse(outcome.output, nullptr, false);
    const auto& object = *group ? json.at(group) : json;
    return object.at(name).get<double>();
  };
  double measured[2], inspected[2];
  for (const int expert : {1, 2}) {
    const std::string degree = fmt::format("mesh.expert={}", expert);
    const Arguments config{debug_config(), "--set", degree, "--json"};
    Arguments bench{"bench", "step", "--steps", "1"}, inspect{"inspect", "-n", "2"};
    bench.insert(bench.end(), config.begin(), config.end());
    inspect.insert(inspect.end(), config.begin(), config.end());
    measured[expert - 1] = number(bench, "", "memory_formula_bytes", 2);
    inspected[expert - 1] = number(inspect, "memory_per_rank", "total_bytes", 1);
  }
  EXPECT_NEAR(measured[0] - measured[1], inspected[0] - inspected[1], 1);
  EXPECT_GT(measured[0], measured[1]);
}

// Routing here is nearly even, and nothing is dropped.
TEST_F(CommandLine, MeasuresWhatAStepSendsOnEachAxis) {
  for (const Arguments& mesh : {Arguments{"mesh.tensor=2", "mesh.expert=2"},
                                Arguments{"mesh.expert=4", "train.accumulation=2"}}) {
    Arguments bench{"bench", "step", debug_config(), "--steps", "2", "--json"};
    for (const std::string& assignment : mesh) bench.insert(bench.end(), {"--set", assignment});
    const Outcome outcome = call(bench, 4);
    ASSERT_THAT(outcome, EndsWithCode(0, "traffic"));
    const auto json = nlohmann::json::parse(outcome.output, nullptr, false);
    EXPECT_GE(json.at("traffic").size(), 2);
    for (const auto& [axis, sent] : json.at("traffic").items()) {
      const double formula = sent.at("formula_bytes");
      EXPECT_NEAR(sent.at("bytes"), formula, 0.1 * formula) << axis << " of " << mesh[0];
    }
  }
}

TEST_F(CommandLine, ComparesTheMeshesOfSoManyRanks) {
  const Arguments compare{"inspect", debug_config(), "-n", "4", "--meshes"};
  EXPECT_THAT(call(compare), EndsWithCode(0, "data 2, tensor 2, expert 4"));
  Arguments fixed = compare;
  fixed.insert(fixed.end(), {"--set", "mesh.tensor=1", "--set", "mesh.expert=4"});
  const Outcome outcome = call(fixed);
  EXPECT_THAT(outcome, EndsWithCode(0, "data 4, expert 4"));
  EXPECT_THAT(outcome.output, Not(HasSubstr("tensor 2")));
  Arguments small = compare;
  small.insert(small.end(), {"--rank-gib", "0.001"});
  EXPECT_THAT(call(small), EndsWithCode(0, "mesh(es) need more than 1.0 MiB on a rank"));
  EXPECT_THAT(call({"inspect", "mixtral_8x7b", "-n", "4", "--meshes"}),
              EndsWithCode(2, "--set train.global_batch=N"));
}

TEST_F(CommandLine, MeasuresExchangeBesideMpi) {
  const Arguments bench{"bench", "exchange", "--rounds", "3", "--json"};
  EXPECT_THAT(call(bench), EndsWithCode(2, "scripts/launch -n 2"));
  const Outcome outcome = call(bench, 2);
  ASSERT_THAT(outcome, EndsWithCode(0, "timings"));
  const auto timings = nlohmann::json::parse(outcome.output).at("timings");
  EXPECT_EQ(timings.size(), 12);
  for (const auto& timing : timings) {
    EXPECT_GE(timing.at("bytes"), 16 << 10);
    EXPECT_GT(timing.at("mpi_seconds"), 0);
    EXPECT_GT(timing.at("seconds"), 0);
  }
}

TEST_F(CommandLine, LooksARouterUpByTheNameOfItsModel) {
  write_file(file("logits.csv"), "2,1,0,1.5\n0,.5,3,0\n");
  const auto inspect = [&](const std::string& router) {
    return call({"inspect", "routing", "--router", router, "--logits", file("logits.csv")});
  };
  EXPECT_THAT(inspect("mixtral_8x7b"), EndsWithCode(0, "token"));
  EXPECT_THAT(inspect("mixtral"), EndsWithCode(2, "; one of: mixtral_100m, mixtral_1b"));
  EXPECT_THAT(inspect("t5_base"), EndsWithCode(2, "without experts has no router"));
}

TEST_F(CommandLine, TakesARoutersDrawsFromFiles) {
  write_file(file("logits.csv"), "2,1,0,1.5\n0,.5,3,0\n");
  write_file(file("draws.csv"), "0,0,9,0\n9,0,0,0\n");
  const auto inspect = [&](const Arguments& more) {
    Arguments arguments{"inspect",  "routing",          "--router", "mixtral_8x7b",
                        "--logits", file("logits.csv"), "--json"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return call(arguments);
  };
  const auto first_expert = [](const Outcome& outcome, size_t token) {
    return nlohmann::json::parse(outcome.output)["tokens"][token][0]["expert"].get<int>();
  };
  const Outcome sampled =
      inspect({"--set", "moe.router.selection=SAMPLED", "--gumbels", file("draws.csv")});
  EXPECT_EQ(first_expert(sampled, 0), 2);
  EXPECT_EQ(first_expert(sampled, 1), 0);
  const Arguments budget{"--set", "moe.capacity.policy=DEVICE_BUDGET", "--set", "moe.num_devices=2",
                         "--exempt"};
  const auto with = [&](const char* flags) {
    write_file(file("exempt.csv"), flags);
    Arguments arguments = budget;
    arguments.push_back(file("exempt.csv"));
    return inspect(arguments);
  };
  EXPECT_THAT(with("1\n2\n"), EndsWithCode(3, "must hold 0 and 1 alone"));
  EXPECT_THAT(with("1\n"), EndsWithCode(3, "holds 1 numbers, expected 2"));
  EXPECT_THAT(with("1\n0\n"), EndsWithCode(0, "\"dropped\""));
}

TEST_F(CommandLine, RefusesToGenerateFromARunWithoutText) {
  expect_trained({.run = "run", .set = {"train.steps=2"}});
  EXPECT_THAT(call({"generate", file("run")}), EndsWithCode(2, "no tokenizer"));
  EXPECT_THAT(call({"eval", file("none")}), EndsWithCode(4, file("none")));
}

TEST_F(CommandLine, EvaluatesOnTheNamedFilesAlone) {
  expect_trained({.run = "run", .set = {"train.steps=2"}});
  const Outcome outcome = call({"eval", file("run"), "--json", "--data", tokenize_documents()});
  ASSERT_THAT(outcome, EndsWithCode(0, "documents"));
  EXPECT_EQ(nlohmann::json::parse(outcome.output)["sources"].size(), 1);
}

}  // namespace
}  // namespace switchyard::testing
