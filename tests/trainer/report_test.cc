#include "trainer/log/report.h"

#include <filesystem>
#include <fstream>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/errors.h"
#include "trainer/log/svg_chart.h"

namespace switchyard::trainer {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

struct Report : ::testing::Test {
  Report() {
    std::filesystem::remove_all(folder);
    std::filesystem::create_directories(folder);
  }
  void put(const std::string& name, const std::string& text) const {
    std::ofstream(folder + "/" + name) << text;
  }

  const std::string folder = ::testing::TempDir() + "report/a<b";
};

size_t count(const std::string& text, const std::string& part) {
  size_t found = 0;
  for (size_t at = text.find(part); at != text.npos; at = text.find(part, at + 1)) ++found;
  return found;
}

TEST_F(Report, DrawsWhatTheRunHasAndNothingElse) {
  put("metrics.jsonl",
      "{\"step\":10,\"loss\":5.5,\"lr\":0.001,\"grad_norm\":null}\n"
      "{\"step\":20,\"loss\":4.5,\"lr\":0.002,\"grad_norm\":1.5}\n"
      "{\"step\":20,\"eval/loss\":4.75,\"eval/en/loss\":4.75}\n");
  const std::string page = report_page(folder);
  EXPECT_THAT(page, AllOf(HasSubstr("<title>a&lt;b</title>"), HasSubstr("<b>20</b>steps"),
                          HasSubstr("<b>4.5</b>training loss"), HasSubstr("held out"),
                          HasSubstr("Learning rate"), HasSubstr("prefers-color-scheme:dark")));
  for (const char* absent : {"Experts", "Tokens per second", "spike", "by source", "http", "nan"})
    EXPECT_THAT(page, Not(HasSubstr(absent)));
}

TEST_F(Report, KnowsTheLossesOfAttentionAcrossDocuments) {
  put("metrics.jsonl",
      "{\"step\":10,\"loss_across_documents\":5.5,\"tokens\":31500000}\n"
      "{\"step\":10,\"eval/loss_across_documents\":4.75,\"eval/en/loss_across_documents\":4,"
      "\"eval/fr/loss_across_documents\":5}\n");
  EXPECT_THAT(report_page(folder),
              AllOf(HasSubstr("<b>5.5</b>training loss"), HasSubstr("<b>4.75</b>held-out loss"),
                    HasSubstr("by source"), HasSubstr(">fr<"), HasSubstr("<b>31.5M</b>tokens")));
}

TEST(ShortNumber, HasAUnitOnlyWhereItIsLong) {
  EXPECT_EQ(short_number(0.003), "0.003");
  EXPECT_EQ(short_number(-1.5), "-1.5");
  EXPECT_EQ(short_number(9999), "9999");
  EXPECT_EQ(short_number(10250), "10.25k");
  EXPECT_EQ(short_number(-2e6), "-2M");
}

TEST_F(Report, DrawsExpertsSpikesAndSources) {
  std::string lines;
  for (int step = 1; step <= 2000; ++step)
    lines += "{\"step\":" + std::to_string(step) +
             ",\"loss\":3,\"moe/0/aux\":1,\"moe/0/drop\":0.1,\"moe/1/drop\":0.2,\"moe/dead\":0,"
             "\"moe/load_loss\":1,\"moe/0/expert_load\":[0,3,1]" +
             (step == 7 ? ",\"spike\":7.5}\n" : "}\n");
  put("metrics.jsonl",
      lines + "{\"step\":2000,\"eval/loss\":2,\"eval/de/loss\":1,\"eval/fr/loss\":3}\n");
  put("timing.jsonl", "{\"step\":2000,\"tokens_per_second\":1234}\n");
  const std::string page = report_page(folder);
  for (const char* part : {"Share of dropped slots", "router 1</span>", "spike</span>", "by source",
                           "de</span>", "Router 0: load of each expert", "1234</b>tokens"})
    EXPECT_THAT(page, HasSubstr(part));
  EXPECT_THAT(page, Not(HasSubstr("load_loss")));
  EXPECT_EQ(count(page, "class=\"dot c"), 5);  // the spike, and curves of one point
  EXPECT_LT(page.size(), 200'000);             // however long the run
}

TEST_F(Report, ReadsARunThatGoesOn) {
  put("metrics.jsonl", "{\"step\":1,\"loss\":5}\n{\"step\":2,\"lo");
  EXPECT_THAT(report_page(folder), HasSubstr("<b>1</b>steps"));
  put("metrics.jsonl", "{\"step\":1,\"lo\n{\"step\":2,\"loss\":5}\n");
  EXPECT_THROW(report_page(folder), DataError);
  EXPECT_THROW(report_page(folder + "/none"), ConfigError);
}

TEST_F(Report, RefusesWhatNoRunWrites) {
  for (const char* line : {"{\"loss\":5}", "{\"step\":\"1\"}", "{\"step\":-1}", "{\"step\":1.5}",
                           "{\"step\":18446744073709551615}", "{\"step\":2,\"loss\":\"5\"}",
                           "{\"step\":2,\"loss\":true}", "{\"step\":2,\"loss\":[5]}",
                           "{\"step\":2,\"step\":3}", "{\"step\":2,\"moe/0/expert_load\":1}",
                           "{\"step\":2,\"moe/0/expert_load\":[\"a\"]}", "[]"}) {
    put("metrics.jsonl", "{\"step\":1,\"loss\":5}\n" + std::string(line) + "\n");
    EXPECT_THAT([&] { report_page(folder); },
                ::testing::ThrowsMessage<DataError>(HasSubstr("metrics.jsonl:2: ")))
        << line;
  }
}

// The y axis has a tick at 5 and one at 4.
TEST(LineChartOf, PutsTicksAtRoundNumbersAndBreaksWhereAValueIsMissing) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const std::string svg =
      render(LineChart{"t", "step", {{"a", {{0, 4.1}, {50, 4.9}, {75, nan}, {100, 4.5}}}}});
  for (const char* tick : {">4</text>", ">4.2</text>", ">5</text>", ">0</text>", ">100</text>"})
    EXPECT_THAT(svg, HasSubstr(tick));
  EXPECT_EQ(count(svg.substr(svg.find("class=\"curve")), "M"), 2);
}

}  // namespace
}  // namespace switchyard::trainer
