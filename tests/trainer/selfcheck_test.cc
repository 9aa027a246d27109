// `selfcheck` itself: sound configs pass, every mistake that is made on purpose is found and its
// axis named, and the numbers of all families' tiny presets do not depend on the mesh.

#include "trainer/selfcheck/selfcheck.h"

#include <cmath>
#include <cstdlib>
#include <fstream>
#include <map>
#include <sstream>

#include <fmt/format.h>
#include <gmock/gmock.h>

#include "core/base/errors.h"
#include "core/config/layers.h"
#include "core/config/presets.h"
#include "core/config/validate.h"
#include "core/tensor/aten.h"
#include "models/catalog/catalog.h"
#include "parallel/single.h"
#include "trainer/selfcheck/meshes.h"
#include "trainer/selfcheck/mistakes.h"
#include "trainer/selfcheck/shrink.h"

namespace switchyard::trainer {

void PrintTo(const Mistake& mistake, std::ostream* out) { *out << mistake.name; }

namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

SelfcheckReport check(const config::RunConfig& config, const SelfcheckOptions& options) {
  const auto alone = parallel::make_single();
  return selfcheck(config, options, *alone, [](const std::string&, int64_t, int64_t) {});
}

std::vector<std::string> texts(const std::vector<Cause>& causes) {
  std::vector<std::string> texts;
  for (const Cause& cause : causes) texts.push_back(cause.text());
  return texts;
}

// A run of a few tokens on generated text.
config::RunConfig run_of(const std::string& preset, std::vector<std::string> overrides = {}) {
  for (const char* own : {"data.sequence_length=12", "train.steps=30", "train.global_batch=8",
                          "runtime.compute=FP64", "optimizer.lr=3e-3"})
    overrides.insert(overrides.begin(), own);
  return models::preset_run(preset, overrides, 1);
}

// Of layers whose losses add up, so that they may lie on several stages, of which two share the
// tokens' table.
config::RunConfig staged_run() {
  return run_of("mixtral_tiny",
                {"model.moe.layer_aggregation=MEAN_OVER_LAYERS", "model.tie_embeddings=true"});
}

constexpr Axis kData = Axis::kData, kExpert = Axis::kExpert, kExpertData = Axis::kExpertData;

TEST(Blame, IsOnTheAxisThatEveryMissAndNoOtherMeshHas) {
  const std::vector<MeshVerdict> expert = {{{kData, kExpertData}, false},
                                           {{kData, kExpert, kExpertData}, true},
                                           {{kData, kExpert}, true}};
  EXPECT_THAT(texts(causes_of(expert)), ElementsAre("expert"));
  const std::vector<MeshVerdict> expert_data = {{{kData, kExpertData}, true},
                                                {{kData, kExpert, kExpertData}, true},
                                                {{kData, kExpert}, false}};
  EXPECT_THAT(texts(causes_of(expert_data)), ElementsAre("expert_data"));
  const std::vector<MeshVerdict> data = {{{kData, kExpertData}, true}, {{kData, kExpert}, true}};
  EXPECT_THAT(texts(causes_of(data)), ElementsAre("data"));
  EXPECT_THAT(causes_of(std::vector<MeshVerdict>{{{kData}, false}}), IsEmpty());
}

TEST(Blame, IsOnAxesTogetherWhereNoneAloneMisses) {
  const std::vector<MeshVerdict> meshes = {
      {{kData}, false}, {{kExpert}, false}, {{kData, kExpert}, true}};
  EXPECT_THAT(texts(causes_of(meshes)), ElementsAre("data with expert"));
}

TEST(Blame, FindsSeveralCauses) {
  const std::vector<MeshVerdict> meshes = {
      {{kData}, true}, {{kExpert}, true}, {{kData, kExpert}, true}, {{kExpertData}, false}};
  EXPECT_THAT(texts(causes_of(meshes)), ElementsAre("data", "expert"));
}

TEST(Blame, NamesAxesThatNoMeshTellsApart) {
  const std::vector<MeshVerdict> meshes = {{{kData, kExpertData}, true}};
  EXPECT_THAT(texts(causes_of(meshes)), ElementsAre("data or expert_data"));
}

TEST(LegalMeshes, AreAllThatTheRulesAllow) {
  std::vector<std::string> names;
  for (const config::Mesh& mesh : legal_meshes(run_of("mixtral_tiny"), 4))
    names.push_back(name_of(mesh));
  EXPECT_THAT(
      names, ElementsAre(
                 "data 4", "data 4, expert_tensor 2", "data 4, expert_tensor 4", "data 4, expert 2",
                 "data 4, expert 2, expert_tensor 2", "data 4, expert 4", "data 2, tensor 2",
                 "data 2, tensor 2, expert_tensor 2", "data 2, tensor 2, expert_tensor 4",
                 "data 2, tensor 2, expert 2", "data 2, tensor 2, expert 2, expert_tensor 2",
                 "data 2, tensor 2, expert 4", "tensor 4", "tensor 4, expert_tensor 2",
                 "tensor 4, expert_tensor 4", "tensor 4, expert 2",
                 "tensor 4, expert 2, expert_tensor 2", "tensor 4, expert 4"));
}

TEST(LegalMeshes, AreCoveredByFew) {
  const config::RunConfig config = run_of("mixtral_tiny");
  const auto all = legal_meshes(config, 8);
  const auto few = covering(all, config.model(), 8);
  EXPECT_LT(2 * few.size(), all.size());
  for (const config::Mesh& mesh : all) {
    const AxisSet axes = axes_of(mesh, config.model(), 8);
    for (const Axis a : kAllAxes) {
      for (const Axis b : kAllAxes) {
        if (!axes.contains(a) || !axes.contains(b)) continue;
        EXPECT_TRUE(std::ranges::any_of(few,
                                        [&](const config::Mesh& kept) {
                                          const AxisSet some = axes_of(kept, config.model(), 8);
                                          return some.contains(a) && some.contains(b);
                                        }))
            << words_of(a).name << " with " << words_of(b).name;
      }
    }
  }
}

TEST(LegalMeshes, HaveStagesWhereLayersCanBeDealt) {
  std::vector<std::string> names;
  for (const config::Mesh& mesh : legal_meshes(staged_run(), 4)) names.push_back(name_of(mesh));
  EXPECT_THAT(names, ::testing::IsSupersetOf({"data 2, pipeline 2", "data 2, expert 2, pipeline 2",
                                              "tensor 2, pipeline 2"}));
  EXPECT_THAT(names, Not(Contains("pipeline 4")));  // of three layers
}

// Differences of two steps, and a decision that differs in the second.
Differences parted_in_step_two() {
  Differences differences;
  differences[{Quantity::kRouting, 1}] = {.element = {0, "router 0"}, .decisions = 500};
  differences[{Quantity::kRouting, 2}] = {
      .element = {1, "router 0"}, .differing = 1, .decisions = 500};
  differences[{Quantity::kGradient, 1}] = {.element = {1e-6, "a"}, .norm = {1e-6, "a"}};
  differences[{Quantity::kGradient, 2}] = {.element = {0.5, "b"}, .norm = {0.01, "c"}};
  return differences;
}

TEST(Judgement, InFloat32IsOfWholeTensorsAfterAnUpdateOrAnotherDecision) {
  const auto judgements = judge(parted_in_step_two(), config::FP32);
  ASSERT_EQ(judgements.size(), 2);
  EXPECT_FALSE(judgements[0].misses);
  EXPECT_EQ(judgements[0].differing, 1);
  EXPECT_FALSE(judgements[1].misses);  // by single numbers it would
  Differences alike = parted_in_step_two();
  alike[{Quantity::kRouting, 2}].differing = 0;
  EXPECT_TRUE(judge(alike, config::FP32)[1].misses);
  EXPECT_EQ(judge(alike, config::FP32)[1].where, "c");
  Differences early = parted_in_step_two();
  early[{Quantity::kGradient, 1}].element.error = 1e-4;
  EXPECT_TRUE(judge(early, config::FP32)[1].misses);
  EXPECT_EQ(judge(early, config::FP32)[1].step, 1);
}

TEST(Judgement, InFloat64AllowsNoOtherDecision) {
  const auto judgements = judge(parted_in_step_two(), config::FP64);
  EXPECT_TRUE(judgements[0].misses);
  EXPECT_TRUE(judgements[1].misses);
  EXPECT_EQ(judgements[1].where, "a");  // the first that misses, though "b" is further off
}

TEST(Judgement, TakesANumberThatIsNoneForTheGreatest) {
  Worst worst;
  worst.take(3, "large");
  worst.take(std::nan(""), "none");
  worst.take(5, "larger");
  EXPECT_EQ(worst.name, "none");
}

TEST(Selfcheck, PassesSoundTraining) {
  const SelfcheckReport report = check(run_of("mixtral_tiny"), {.ranks = 4, .steps = 2});
  EXPECT_TRUE(report.passed()) << render(report, false);
  EXPECT_EQ(report.meshes.size(), legal_meshes(report.config, 4).size());
  EXPECT_EQ(report.meshes[0].judgements.size(), kAllQuantities.size());
  EXPECT_THAT(render(report, false), HasSubstr(fmt::format("all {} mesh(es) compute what one rank",
                                                           report.meshes.size())));
  EXPECT_THAT(render(report, true), HasSubstr("\"passed\": true"));
}

TEST(Selfcheck, PassesOtherTypes) {
  for (const char* type : {"FP32", "BF16"}) {
    const auto config = run_of("mixtral_tiny", {fmt::format("runtime.compute={}", type)});
    const SelfcheckReport report = check(config, {.ranks = 2, .steps = 2});
    EXPECT_TRUE(report.passed()) << render(report, false);
  }
}

TEST(Selfcheck, RefusesAConfigThatNoMeshGoesWith) {
  const config::RunConfig config = run_of("mixtral_tiny", {"train.global_batch=3"});
  EXPECT_THAT([&] { check(config, {.ranks = 5}); },
              ::testing::ThrowsMessage<ConfigError>(HasSubstr("train.global_batch (3)")));
}

TEST(Selfcheck, RefusesWhatDoesNotFitIntoMemory) {
  const auto config = models::preset_run("deepseek_v3", {"train.global_batch=4"}, 4);
  EXPECT_THAT([&] { check(config, {.ranks = 4}); },
              ::testing::ThrowsMessage<ConfigError>(HasSubstr("--shrink")));
}

TEST(Selfcheck, RefusesToCompareWithWhatIsNotFinite) {
  const at::Tensor none = at::full({1}, std::nan(""), at::kDouble);
  Trace trace;
  EXPECT_THAT(
      [&] {
        trace.record({Quantity::kLoss, 2, "loss", {1}, {{{{0}, {1}}, none}}});
      },
      ::testing::ThrowsMessage<NumericsError>(HasSubstr("loss of step 2 is not finite")));
}

TEST(Selfcheck, RefusesAMistakeThatNoMeshCanShow) {
  const config::RunConfig config = run_of("mixtral_tiny", {"model.moe.num_experts=3"});
  EXPECT_THAT([&] { check(config, {.ranks = 2, .inject = "wrong_shard"}); },
              ::testing::ThrowsMessage<ConfigError>(HasSubstr("along the expert axis")));
  EXPECT_THAT([&] { check(config, {.ranks = 2, .inject = "typo"}); },
              ::testing::ThrowsMessage<ConfigError>(HasSubstr("skip_rank_reduce")));
}

struct Mistakes : ::testing::TestWithParam<Mistake> {};

TEST_P(Mistakes, AreFoundAndTheirAxisNamed) {
  const SelfcheckOptions options{.ranks = 4, .steps = 2, .inject = std::string(GetParam().name)};
  const SelfcheckReport report = check(staged_run(), options);
  EXPECT_THAT(texts(report.causes()), ElementsAre(words_of(GetParam().axis).name))
      << render(report, false);
}

INSTANTIATE_TEST_SUITE_P(All, Mistakes, ::testing::ValuesIn(all_mistakes()),
                         [](const auto& test) { return std::string(test.param.name); });

// Of the mesh whose ranks all see other tokens and hold other experts.
std::vector<Quantity> missed(const std::string& mistake) {
  const SelfcheckReport report =
      check(run_of("mixtral_tiny"), {.ranks = 4, .steps = 2, .inject = mistake});
  const auto mesh = std::ranges::find_if(
      report.meshes, [](const MeshReport& one) { return name_of(one.mesh) == "data 4, expert 4"; });
  std::vector<Quantity> quantities;
  for (const Judgement& judgement : mesh->judgements)
    if (judgement.misses) quantities.push_back(judgement.quantity);
  return quantities;
}

TEST(Selfcheck, LooksAtEveryQuantity) {
  EXPECT_THAT(missed("wrong_shard"), ElementsAreArray(kAllQuantities));
  EXPECT_THAT(missed("lost_token"), Contains(Quantity::kLoss));
  EXPECT_THAT(missed("double_count_norm"), Contains(Quantity::kNorm));
  EXPECT_THAT(missed("double_count_norm"), Not(Contains(Quantity::kRouting)));
}

std::vector<std::string> presets(const std::string& ending) {
  std::vector<std::string> names;
  for (const std::filesystem::path& path : config::preset_files("models", "configs"))
    if (path.stem().string().ends_with(ending)) names.push_back(path.stem().string());
  return names;
}

struct TinyFamily : ::testing::TestWithParam<std::string> {};

TEST_P(TinyFamily, ComputesTheSameOnEveryMesh) {
  const config::RunConfig config = run_of(GetParam());
  for (const int ranks : {2, 4}) {
    const SelfcheckReport report = check(config, {.ranks = ranks, .steps = 2, .quick = true});
    EXPECT_TRUE(report.passed()) << render(report, false);
  }
}

INSTANTIATE_TEST_SUITE_P(Models, TinyFamily, ::testing::ValuesIn(presets("_tiny")),
                         [](const auto& test) { return test.param; });

// A line of the table in docs/guide/parallel.md.
struct Combination {
  std::string model, settings;
  std::map<Axis, std::string> on_axis;  // "yes" or "no"
};

std::string trimmed(std::string cell) {
  std::erase(cell, '`');
  const size_t begin = cell.find_first_not_of(' ');
  return begin == cell.npos ? "" : cell.substr(begin, cell.find_last_not_of(' ') + 1 - begin);
}

std::vector<std::string> cells_of(const std::string& line) {
  std::vector<std::string> cells;
  std::istringstream text(line.substr(1));
  for (std::string cell; std::getline(text, cell, '|');) cells.push_back(trimmed(cell));
  return cells;
}

std::map<std::string, Combination> combinations_of_the_guide() {
  std::ifstream page(std::string(std::getenv("SY_TEST_ROOT")) + "/docs/guide/parallel.md");
  std::map<std::string, Combination> combinations;
  std::vector<std::string> header;
  for (std::string line; std::getline(page, line);) {
    if (line.starts_with("| what |")) header = cells_of(line);
    if (header.empty() || !line.starts_with("| ") || line.starts_with("| what |")) continue;
    const std::vector<std::string> cells = cells_of(line);
    Combination& combination = combinations[cells.at(0)];
    combination = {cells.at(1), cells.at(2), {}};
    for (size_t i = 3; i < header.size(); ++i) {
      for (const Axis axis : kAllAxes)
        if (words_of(axis).name == header[i]) combination.on_axis[axis] = cells.at(i);
    }
  }
  return combinations;
}

config::RunConfig run_of(const Combination& combination) {
  std::vector<std::string> settings;
  std::istringstream text(combination.settings);
  for (std::string setting; text >> setting;) settings.push_back(setting);
  return run_of(combination.model, settings);
}

TEST(Combinations, AreThoseOfTheGuide) {
  const auto combinations = combinations_of_the_guide();
  EXPECT_GE(combinations.size(), 13);
  for (const auto& [what, combination] : combinations) {
    SCOPED_TRACE(what);
    const config::RunConfig config = run_of(combination);
    EXPECT_GE(combination.on_axis.size(), 4);
    for (const auto& [axis, allowed] : combination.on_axis) {
      const bool is_legal =
          std::ranges::any_of(legal_meshes(config, 2), [&](const config::Mesh& mesh) {
            return axes_of(mesh, config.model(), 2).contains(axis);
          });
      EXPECT_EQ(allowed, is_legal ? "yes" : "no") << words_of(axis).name;
    }
    if (combination.settings.empty()) continue;  // one of TinyFamily
    const SelfcheckReport report = check(config, {.ranks = 4, .steps = 1, .quick = true});
    EXPECT_TRUE(report.passed()) << render(report, false);
  }
}

TEST(Shrunk, EveryPresetKeepsItsKindsOfLayers) {
  for (const std::string& name : presets("")) {
    SCOPED_TRACE(name);
    const config::RunConfig whole = models::preset_run(name, {"train.global_batch=8"}, 4);
    config::RunConfig small;
    ASSERT_NO_THROW(small = shrunk(whole, 4));
    EXPECT_LT(models::census(small.model()).total, 500'000);
    EXPECT_EQ(config::has_dense_ffn(small.model()), config::has_dense_ffn(whole.model()));
    EXPECT_EQ(config::num_moe_layers(small.model()) > 0, config::num_moe_layers(whole.model()) > 0);
    EXPECT_LE(legal_meshes(whole, 4).size(), legal_meshes(small, 4).size());
  }
}

}  // namespace
}  // namespace switchyard::trainer
