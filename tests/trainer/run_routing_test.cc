// `switchyard inspect routing` with files beside the logits, against weights worked out here.

#include <cmath>

#include "tests/trainer/run_fixture.h"

namespace switchyard::testing {
namespace {

// Of the first of two choices, renormalised.
double share(double difference) { return 1 / (1 + std::exp(-difference)); }

double sigma(double noise_logit) { return std::log1p(std::exp(noise_logit)) + 0.01; }

struct Choice {
  int expert;
  double weight;
  std::string without_slot = {};  // why; empty: it has one
};

struct Case {
  const char* name;
  Arguments set;                                           // of moe
  std::vector<std::pair<std::string, std::string>> files;  // option, contents
  std::vector<std::vector<Choice>> tokens;
  Arguments extra = {};
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

struct InspectRouting : RunTest, ::testing::WithParamInterface<Case> {};

TEST_P(InspectRouting, GivesTheWeightsOfItsFiles) {
  write_file(file("logits.csv"), "2,1,0,0\n2,1,0,0\n");
  Arguments arguments{"inspect",  "routing",          "--router", "mixtral_8x7b",
                      "--logits", file("logits.csv"), "--json"};
  for (const std::string& set : GetParam().set) {
    arguments.insert(arguments.end(), {"--set", "moe." + set});
  }
  for (const auto& [option, contents] : GetParam().files) {
    write_file(file(option), contents);
    arguments.insert(arguments.end(), {"--" + option, file(option)});
  }
  arguments.insert(arguments.end(), GetParam().extra.begin(), GetParam().extra.end());
  const Outcome outcome = call(arguments);
  ASSERT_THAT(outcome, EndsWithCode(0, "tokens"));
  const auto tokens = nlohmann::json::parse(outcome.output)["tokens"];
  ASSERT_EQ(tokens.size(), GetParam().tokens.size());
  for (size_t t = 0; t < tokens.size(); ++t) {
    ASSERT_EQ(tokens[t].size(), GetParam().tokens[t].size());
    for (size_t j = 0; j < tokens[t].size(); ++j) {
      SCOPED_TRACE(fmt::format("choice {} of token {}: {}", j, t, tokens[t][j].dump()));
      const Choice& expected = GetParam().tokens[t][j];
      EXPECT_EQ(tokens[t][j]["expert"], expected.expert);
      EXPECT_NEAR(tokens[t][j]["weight"], expected.weight, 1e-12);
      EXPECT_EQ(tokens[t][j].value("without_slot", ""), expected.without_slot);
    }
  }
}

const Choice kFirst{0, share(1)}, kSecond{1, share(-1)};
const Arguments kTwoLevels{"router.hierarchy=TWO_LEVEL", "router.num_groups=2",
                           "router.group_top_k=2", "z_loss_coefficient=0",
                           "layer_aggregation=SUM_OVER_LAYERS"};

Arguments operator+(Arguments some, const Arguments& more) {
  some.insert(some.end(), more.begin(), more.end());
  return some;
}

INSTANTIATE_TEST_SUITE_P(
    Files, InspectRouting,
    ::testing::Values(
        // The second's share is 0.269: it asks where a draw is below 0.538.
        Case{"Uniforms",
             {"router.second_choice=AT_RANDOM", "router.second_choice_threshold=0.5"},
             {{"uniforms", "0.53\n0.54\n"}},
             {{kFirst, kSecond}, {kFirst, {1, share(-1), "rejected"}}}},
        Case{"Lots",
             {"capacity.policy=AT_RANDOM_ORDER", "capacity.fixed_slots=1"},
             {{"lots", "0.1,0.9\n0.2,0.3\n"}},
             {{kFirst, {1, share(-1), "no room"}}, {{0, share(1), "no room"}, kSecond}}},
        Case{"Noise",
             {"router.noise=LEARNED_NOISE"},
             {{"noise", "0,2,0,0\n0,0,0,2\n"}, {"noise-logits", "0,0,0,0\n0,0,0,1\n"}},
             {{{1, share(2 * sigma(0) - 1)}, {0, share(1 - 2 * sigma(0))}},
              {{3, share(2 * sigma(1) - 2)}, {0, share(2 - 2 * sigma(1))}}}},
        Case{"Biases",
             {"router.selection_bias=true"},
             {{"biases", "0,0,0,9\n"}},
             {{{3, share(-2)}, {0, share(2)}}, {{3, share(-2)}, {0, share(2)}}}},
        // The probabilities are 0.610, 0.225, 0.083 and 0.083.
        Case{
            "Thresholds",
            {"router.selection=STRICTLY_BALANCED", "router.weighting=RENORMALIZE_KEPT",
             "capacity.policy=BY_PROBABILITY", "balance_loss.coefficient=0",
             "balance_loss.statistics=GLOBAL_BATCH", "balance_loss.load=ALL_CHOICES"},
            {{"thresholds", "0.7,0.2,0.05,0.09\n"}},
            std::vector(2,
                        std::vector<Choice>{
                            {0, 0, "rejected"}, {1, share(1)}, {2, share(-1)}, {3, 0, "rejected"}}),
            {"--evaluation"}},
        Case{"GroupLogits",
             kTwoLevels,
             {{"group-logits", "1,0\n0,2\n"}},
             {{{0, share(1)}, {2, share(-1)}}, {{2, share(2)}, {0, share(-2)}}}},
        Case{"GroupNoise",
             kTwoLevels + Arguments{"router.noise=LEARNED_NOISE"},
             {{"noise", "0,0,0,0\n0,0,0,0\n"},
              {"group-noise", "1,0\n0,2\n"},
              {"group-noise-logits", "0,0\n0,1\n"}},
             {{{0, share(sigma(0))}, {2, share(-sigma(0))}},
              {{2, share(2 * sigma(1))}, {0, share(-2 * sigma(1))}}}}),
    [](const auto& instance) { return instance.param.name; });

struct InspectRoutingFiles : RunTest {
  Outcome inspect(const std::string& logits, const Arguments& more = {}) {
    write_file(file("logits.csv"), logits);
    return call(Arguments{"inspect", "routing", "--router", "mixtral_8x7b", "--logits",
                          file("logits.csv")} +
                more);
  }
  // With a further file, after `set` of moe.
  Outcome inspect_with(const Arguments& set, const std::string& option, const std::string& contents,
                       const Arguments& more = {}) {
    write_file(file("more.csv"), contents);
    Arguments arguments = more;
    for (const std::string& field : set)
      arguments.insert(arguments.end(), {"--set", "moe." + field});
    return inspect("2,1,0,0\n2,1,0,0\n", arguments + Arguments{option, file("more.csv")});
  }
};

TEST_F(InspectRoutingFiles, TellsAFileThatIsNotThereOrHasNoColumnForEachExpert) {
  EXPECT_THAT(
      call({"inspect", "routing", "--router", "mixtral_8x7b", "--logits", file("none.csv")}),
      EndsWithCode(3, file("none.csv") + ": there is no such file"));
  EXPECT_THAT(inspect("2\n1\n"), EndsWithCode(3, file("logits.csv") + ": has one column"));
}

TEST_F(InspectRoutingFiles, RefusesLogitsThatFloat32DoesNotHold) {
  EXPECT_THAT(inspect("1e300,1,0,0\n"),
              EndsWithCode(3, "logits.csv: must hold numbers up to 3.4e38"));
  EXPECT_THAT(inspect("3e38,1,0,0\n"), EndsWithCode(0, "z loss"));
}

TEST_F(InspectRoutingFiles, RefusesTokenIdsThatAreNone) {
  for (const char* ids : {"0\n-1\n", "0\n0.5\n", "0\n9223372036854775808\n"}) {
    EXPECT_THAT(
        inspect_with({"router.selection=HASH", "router.weighting=RENORMALIZE"}, "--token-ids", ids),
        EndsWithCode(3, "must hold ids of tokens"))
        << ids;
  }
}

TEST_F(InspectRoutingFiles, RefusesDrawsOutsideTheirRange) {
  for (const char* draws : {"-0.1\n0.5\n", "0.5\n1\n", "0.5\n0.99999999999\n"}) {
    EXPECT_THAT(inspect_with({"router.second_choice=AT_RANDOM"}, "--uniforms", draws),
                EndsWithCode(3, "must hold draws from [0, 1)"))
        << draws;
  }
}

TEST_F(InspectRoutingFiles, RefusesAFileThatTheRouterDoesNotRead) {
  for (const auto& [option, field] : std::vector<std::pair<std::string, std::string>>{
           {"--biases", "moe.router.selection_bias"},
           {"--noise", "moe.router.noise"},
           {"--noise-logits", "moe.router.noise"},
           {"--gumbels", "moe.router.selection=SAMPLED"},
           {"--uniforms", "moe.router.second_choice=AT_RANDOM"},
           {"--lots", "moe.capacity.policy=AT_RANDOM_ORDER"},
           {"--exempt", "moe.capacity.policy=DEVICE_BUDGET"},
           {"--token-ids", "moe.router.selection=HASH"},
           {"--group-logits", "moe.router.hierarchy=TWO_LEVEL"},
           {"--group-noise", "moe.router.hierarchy=TWO_LEVEL"},
           {"--group-noise-logits", "moe.router.hierarchy=TWO_LEVEL"},
           {"--thresholds", "moe.router.selection=STRICTLY_BALANCED"}}) {
    const Outcome outcome = inspect_with({}, option, "0\n");
    EXPECT_THAT(outcome, EndsWithCode(2, option));
    EXPECT_THAT(outcome.output, ::testing::HasSubstr(field));
  }
  EXPECT_THAT(
      inspect_with({"router.second_choice=AT_RANDOM"}, "--uniforms", "0\n0\n", {"--evaluation"}),
      EndsWithCode(2, "leave --uniforms or --evaluation out"));
}

}  // namespace
}  // namespace switchyard::testing
