// Every preset under configs/models: it loads, says where it comes from, and has the sizes that its
// publication and our arithmetic give.

#include "models/catalog/catalog.h"

#include <map>
#include <tuple>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "core/base/errors.h"
#include "models/inspect/describe.h"

namespace switchyard::models {
namespace {

using ::testing::HasSubstr;

// What a publication counts: all; active parameters without the lookup; both without the
// vocabulary; all matrices, without norms and position bias.
enum class Counted { kWhole, kActiveWithoutLookup, kWithoutVocabulary, kMatrices };

// Billions, to be met to the last digit that is written.
struct Published {
  const char* name;
  const char* total;
  const char* active;  // null: not published
  Counted counted = Counted::kWhole;
};
constexpr Published kPublished[] = {
    {"glam_0_1b_64e", "1.908", "0.153"},
    {"glam_1_7b_32e", "13.96", "1.880"},
    {"glam_1_7b_64e", "26.85", "1.881"},
    {"glam_1_7b_128e", "52.62", "1.882"},
    {"glam_1_7b_256e", "104.2", "1.885"},
    {"glam_8b_64e", "142.9", "9.80"},
    {"glam_64b_64e", "1161.8", "96.60"},
    {"deepseek_moe_2b", "1.974", "0.317"},
    {"deepseek_moe_16b", "16.376", "2.829"},
    {"deepseek_moe_145b", "144.48", "22.05"},
    {"deepseek_v2_lite", "15.706484224", "2.45", Counted::kActiveWithoutLookup},
    {"deepseek_v2", "235.7", "21.4"},
    {"deepseek_v3", "671.03", "36.6", Counted::kActiveWithoutLookup},
    // The same models on longer texts.
    {"deepseek_v2_lite_32k", "15.706484224", "2.45", Counted::kActiveWithoutLookup},
    {"deepseek_v2_128k", "235.7", "21.4"},
    {"deepseek_v3_128k", "671.03", "36.6", Counted::kActiveWithoutLookup},
    {"mixtral_8x7b", "46.703", "12.880"},
    {"mixtral_8x22b", "140.63", "39.16"},
    {"dbrx", "131.60", "36.47"},
    {"grok_1", "315.7", "83.8"},
    {"qwen1_5_moe_a2_7b", "14.316", "2.689"},
    {"olmoe_1b_7b", "6.919", "1.282"},
    {"qwen3_30b_a3b", "30.532", "3.353"},
    {"qwen3_235b_a22b", "235.09", "22.19"},
    // As printed by the authors.
    {"qwen2_57b_a14b", "57.4", "14.2"},
    {"glam_1_7b", "1.7", "1.7"},
    {"glam_8b", "8.7", "8.7"},
    {"deepseek_moe_142b", "142", "14"},         // 12.2 are printed
    {"deepseek_gshard_137b", "136.5", "21.4"},  // 21.6 are printed
    {"glam_0_1b", "0.14", "0.14"},              // 0.13 are printed
    {"glam_137b", "138", "138"},                // 137 are printed
    {"gshard_12_5b", "13.3", nullptr},
    {"gshard_37b", "39.5", nullptr},
    {"gshard_50b", "51.9", nullptr},
    {"gshard_150b", "155.5", nullptr},
    {"gshard_200b", "206.6", nullptr},
    {"gshard_600b", "619.4", nullptr},  // 600 are printed
    {"gshard_1t", "1032", nullptr},
    {"gshard_dense_2_3b", "2.3", nullptr},
    {"switch_base", "7.415", nullptr},
    {"switch_large", "27.12", nullptr},
    {"switch_xxl", "394.7", nullptr},
    {"switch_c", "1571.4", nullptr},
    {"switch_base_8", "0.619", nullptr},
    {"switch_base_16", "1.072", nullptr},
    {"switch_base_32", "1.979", nullptr},  // see below
    {"switch_base_64", "3.791", nullptr},
    {"switch_base_128", "7.415", nullptr},
    {"switch_base_256", "14.664", nullptr},
    {"switch_large_128", "26.31", nullptr},
    {"t5_base", "0.223", nullptr},
    {"t5_large", "0.738", nullptr},
    {"t5_xxl", "11.1", nullptr},
    {"st_moe_dense_l", "0.873", nullptr},
    // 4.105 and 269.10 leave out the multiplicative bias; see below.
    {"st_moe_l", "4.107", nullptr},
    {"st_moe_32b", "269.12", nullptr},
    {"lstm_4x512", "0.0084", "0.0084", Counted::kWithoutVocabulary},
    {"lstm_2048_512", "0.0094", "0.0094", Counted::kWithoutVocabulary},
    {"moe_1_wide", "0.0084", "0.0084", Counted::kWithoutVocabulary},
    {"moe_1_deep", "0.0084", "0.0084", Counted::kWithoutVocabulary},
    {"moe_4", "0.0084", "0.0084", Counted::kWithoutVocabulary},
    {"moe_32", "0.0378", "0.0084", Counted::kWithoutVocabulary},
    {"moe_256", "0.2729", nullptr, Counted::kWithoutVocabulary},
    {"moe_256_h", "0.2729", nullptr, Counted::kWithoutVocabulary},
    {"moe_1024_h", "1.079", nullptr, Counted::kWithoutVocabulary},
    {"moe_4096_h", "4.303", nullptr, Counted::kWithoutVocabulary},
    {"moe_34m", "4.314", nullptr, Counted::kWithoutVocabulary},
    {"moe_143m", "4.371", nullptr, Counted::kWithoutVocabulary},
    {"moe_16384_h", "17.2", nullptr, Counted::kWithoutVocabulary},
    {"moe_65536_h", "68.8", nullptr, Counted::kWithoutVocabulary},
    {"moe_131072_h", "138", nullptr, Counted::kWithoutVocabulary},  // 137 are printed
};

// The same models with one thing read otherwise, at the sizes that this reading gives.
struct Reading {
  const char* name;
  std::vector<std::string> change;
  const char* total;
  const char* active = nullptr;  // not given
  Counted counted = Counted::kWhole;
};
const std::vector<Reading> kReadings = {
    {"switch_xxl", {"model.moe.num_experts=64"}, "201.4"},  // as its paper prints
    {"switch_base_8", {}, "0.619", nullptr, Counted::kMatrices},
    {"switch_base_16", {}, "1.072", nullptr, Counted::kMatrices},
    {"switch_base_32", {}, "1.978", nullptr, Counted::kMatrices},
    {"switch_base_64", {}, "3.791", nullptr, Counted::kMatrices},
    {"switch_base_128", {}, "7.415", nullptr, Counted::kMatrices},
    {"switch_base_256", {}, "14.664", nullptr, Counted::kMatrices},
    {"st_moe_l", {"model.ffn_bias=NO_FFN_BIAS"}, "4.105"},
    {"st_moe_32b", {"model.ffn_bias=NO_FFN_BIAS"}, "269.10"},
    // 27 layers per stack, as printed, without extra FFNs.
    {"st_moe_32b", {"model.num_layers=27", "model.moe.stacking=NO_STACKING"}, "268.7"},
    {"qwen1_5_moe_a2_7b", {}, "13.69", "2.07", Counted::kWithoutVocabulary},
};

const std::map<std::string, CatalogEntry>& entries() {
  static const std::map<std::string, CatalogEntry> by_name = [] {
    std::map<std::string, CatalogEntry> result;
    for (const CatalogEntry& entry : catalog("configs")) result.insert({entry.name, entry});
    return result;
  }();
  return by_name;
}

std::string in_billions(int64_t count, const std::string& like) {
  const size_t point = like.find('.');
  const size_t digits = point == std::string::npos ? 0 : like.size() - point - 1;
  return fmt::format("{:.{}f}", static_cast<double>(count) / 1e9, digits);
}

int64_t count_of(const Census& counts, const std::string& component) {
  for (const Component& part : counts.components)
    if (part.name == component) return part.total;
  return 0;
}

// T5's position bias is 32 buckets of a number per head, once per stack.
int64_t matrices_of(const Census& counts) {
  constexpr int64_t kPositionBias = 2 * 32 * 12;
  return counts.total - count_of(counts, "norms") - kPositionBias;
}

// What the publication leaves out of the total, and of the active parameters.
std::pair<int64_t, int64_t> left_out(const Census& counts, Counted counted) {
  const int64_t lookup = count_of(counts, "embedding"), output = count_of(counts, "output");
  switch (counted) {
    case Counted::kActiveWithoutLookup:
      return {0, lookup};
    case Counted::kWithoutVocabulary:
      return {lookup + output, lookup + output};
    case Counted::kMatrices:
      return {counts.total - matrices_of(counts), 0};
    default:
      return {0, 0};
  }
}

// `published`: Published or Reading.
void expect_sizes(const Census& counts, const auto& published) {
  SCOPED_TRACE(published.name);
  const auto [total, active] = left_out(counts, published.counted);
  EXPECT_EQ(in_billions(counts.total - total, published.total), published.total);
  if (published.active) {
    EXPECT_EQ(in_billions(counts.active - active, published.active), published.active);
  }
}

TEST(Catalog, MeetsEveryPublishedSizeToItsLastDigit) {
  for (const Published& published : kPublished) {
    ASSERT_TRUE(entries().contains(published.name)) << published.name;
    expect_sizes(entries().at(published.name).counts, published);
  }
}

TEST(Catalog, MeetsTheSizesOfOtherReadingsToo) {
  for (const Reading& reading : kReadings) {
    expect_sizes(census(preset_run(reading.name, reading.change, 1).model()), reading);
  }
}

TEST(Catalog, CountsDeepSeekV2LiteExactly) {
  EXPECT_EQ(entries().at("deepseek_v2_lite").counts.total, 15'706'484'224);
}

// 619.0 have been computed for GShard's 600B. The models of 36 layers differ in the experts and
// their router rows alone, so that 155.5, computed for 512 experts, leaves only 619.4 for 2048.
TEST(Catalog, GShardsLargestModelFollowsFromItsSmaller) {
  constexpr int64_t kLayers = 18, kWidth = 1024, kExpert = 2 * kWidth * 8192;
  const int64_t difference =
      entries().at("gshard_600b").counts.total - entries().at("gshard_150b").counts.total;
  EXPECT_EQ(difference, kLayers * (2048 - 512) * (kExpert + kWidth));
  EXPECT_GT(155.45e9 + static_cast<double>(difference), 619.05e9);
}

// Of the 1-billion-word models, millions per token as printed: multiply-adds without lookup and
// vocabulary.
TEST(Catalog, MeetsThePrintedOperationsOfTheSparselyGatedModels) {
  const std::pair<const char*, const char*> kPrinted[] =
      {
          {"lstm_4x512", "8.4"}, {"lstm_2048_512", "9.4"}, {"moe_1_wide", "8.4"},
          {"moe_1_deep", "8.4"}, {"moe_4", "8.4"},         {"moe_32", "8.4"},
          {"moe_256", "8.7"},  // 8.6 are printed; it is 8.651
          {"moe_256_h", "8.4"},  {"moe_1024_h", "8.5"},    {"moe_4096_h", "8.9"},
          {"moe_34m", "33.8"},   {"moe_143m", "142.7"},
      };
  for (const auto& [name, millions] : kPrinted) {
    double multiplied = 0;
    for (const Component& part : entries().at(name).counts.components)
      if (part.name != "output") multiplied += static_cast<double>(part.multiplied);
    EXPECT_EQ(fmt::format("{:.1f}", multiplied / 1e6), millions) << name;
  }
}

TEST(Catalog, CountsT5AsItsReleasedWeightsDo) {
  EXPECT_EQ(entries().at("t5_base").counts.total, 222'903'552);
  EXPECT_EQ(entries().at("t5_large").counts.total, 737'668'096);
}

// 11.5 billion are printed, without embedding and output, which are the model's own.
TEST(Catalog, CountsMultiTokenPredictionBesideTheModel) {
  const Census& counts = entries().at("deepseek_v3").counts;
  constexpr int64_t kWidth = 7168, kExpert = 3 * kWidth * 2048;
  constexpr int64_t kAttention = (kWidth + 128 * 192) * 1536 + kWidth * (512 + 64) +
                                 512 * 128 * 256 + 128 * 128 * kWidth + 1536 + 512;
  constexpr int64_t kProjection = 2 * kWidth * kWidth, kNorms = 5 * kWidth;
  EXPECT_EQ(counts.training_only.total,
            257 * kExpert + kAttention + 256 * (kWidth + 1) + kProjection + kNorms);
  EXPECT_EQ(in_billions(counts.training_only.total, "1.12"), "11.61");
  EXPECT_EQ(in_billions(counts.training_only.active, "1.12"), "0.69");
}

TEST(Catalog, SaysWhereEveryPublishedModelComesFrom) {
  for (const Published& published : kPublished) {
    const CatalogEntry& entry = entries().at(published.name);
    EXPECT_FALSE(entry.title.empty()) << entry.name;
    EXPECT_FALSE(entry.source.empty()) << entry.name;
  }
  for (const auto& [name, entry] : entries()) {
    const bool is_published =
        std::ranges::count(kPublished, name, [](const Published& p) { return p.name; }) == 1;
    EXPECT_EQ(is_published, !entry.source.empty()) << name << " has a source but no published size";
  }
}

// Their names count all parameters, as those of most published models do.
TEST(Catalog, HasMixtralsToTrainFromOwnText) {
  for (const auto& [name, total, active] : std::vector<std::tuple<const char*, int64_t, int64_t>>{
           {"mixtral_100m", 97'559'040, 40'935'936},
           {"mixtral_300m", 294'611'712, 124'742'400},
           {"mixtral_1b", 1'013'613'568, 334'136'320}}) {
    EXPECT_EQ(entries().at(name).counts.total, total) << name;
    EXPECT_EQ(entries().at(name).counts.active, active) << name;
  }
}

TEST(Catalog, ListsModelsAsTextAndAsJson) {
  const std::vector<CatalogEntry> all = catalog("configs");
  const std::vector<PresetEntry> published = recipes("configs");
  const std::string text = catalog_text(all, published, false);
  EXPECT_THAT(text, HasSubstr("mixtral_8x7b" + std::string(15, ' ') + "46.703B    12.880B  Jiang"));
  EXPECT_THAT(text, HasSubstr("\nolmoe_1b_7b" + std::string(36, ' ') + "Muennighoff"));
  const auto json = nlohmann::json::parse(catalog_text(all, published, true));
  EXPECT_EQ(json["models"].size(), all.size());
  EXPECT_EQ(json["models"][0]["name"], "dbrx");
  EXPECT_EQ(json["models"][0]["total"], 131'596'523'520);
  EXPECT_EQ(json["recipes"].size(), published.size());
  EXPECT_EQ(json["recipes"][0]["name"], "deepseek_moe_145b");
}

TEST(Catalog, InspectsAModelByItsName) {
  const std::string text = inspect_config(preset_run("deepseek_v3", {}, 64), 64, false);
  for (const char* expected : {"61 layers (58 MoE, 3 dense)", "671,026", "mesh    64 rank(s)"})
    EXPECT_THAT(text, HasSubstr(expected));
  for (const char* unknown : {"batch ", "the step is"})
    EXPECT_THAT(text, ::testing::Not(HasSubstr(unknown)));
  EXPECT_THAT(
      inspect_config(preset_run("deepseek_v3", {"train.global_batch=128"}, 64), 64, false),
      ::testing::AllOf(HasSubstr("batch   128 sequences of 4096"), HasSubstr("is 128 sequences")));
  EXPECT_EQ(preset_run("mixtral_8x7b", {"model.moe.top_k=1"}, 1).model().moe().top_k(), 1);
  try {
    preset_run("mixtral_8x7", {}, 1);
    ADD_FAILURE() << "a model of that name exists";
  } catch (const ConfigError& error) {
    EXPECT_THAT(error.what(), HasSubstr("nearest: \"mixtral_8x7b\""));
  }
}

std::vector<std::string> tiny_models() {
  std::vector<std::string> names;
  for (const auto& [name, entry] : entries())
    if (name.ends_with("_tiny")) names.push_back(name);
  return names;
}

struct TinyFamily : ::testing::TestWithParam<std::string> {};

TEST_P(TinyFamily, HasAFewHundredThousandParameters) {
  EXPECT_GT(entries().at(GetParam()).counts.total, 100'000);
  EXPECT_LT(entries().at(GetParam()).counts.total, 900'000);
}

INSTANTIATE_TEST_SUITE_P(Models, TinyFamily, ::testing::ValuesIn(tiny_models()),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace switchyard::models
