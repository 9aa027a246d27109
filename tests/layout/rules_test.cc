#include "tests/layout/rules.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace switchyard::layout {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

Findings includes(const std::string& path, const std::string& line) {
  return check_includes({path, "#pragma once\n" + line + "\n"});
}

TEST(CheckIncludes, AllowsOnlyArrowsThatPointDown) {
  EXPECT_THAT(includes("trainer/loop.cc", "#include \"models/decoder.h\""), IsEmpty());
  EXPECT_THAT(includes("tests/a_test.cc", "#include \"trainer/loop.h\""), IsEmpty());
  EXPECT_THAT(includes("models/decoder.h", "#include \"optim/adamw.h\""),
              ElementsAre("models/decoder.h:2: optim/adamw.h: models must not include optim"));
  EXPECT_THAT(includes("core/io/a.h", "#include \"parallel/mesh.h\""), SizeIs(1));
  EXPECT_THAT(includes("parallel/a.h", "#include \"tests/testing/a.h\""), SizeIs(1));
}

TEST(CheckIncludes, WantsPathsFromTheRoot) {
  EXPECT_THAT(includes("core/io/a.cc", "#include \"a.h\""), SizeIs(1));
  EXPECT_THAT(includes("core/io/a.cc", "#include \"../io/a.h\""), SizeIs(1));
}

TEST(CheckIncludes, KeepsTheBaseAlone) {
  EXPECT_THAT(includes("core/base/a.h", "#include \"core/base/b.h\""), IsEmpty());
  EXPECT_THAT(includes("core/base/a.h", "#include \"core/io/b.h\""), SizeIs(1));
}

TEST(CheckIncludes, KeepsMessageLibrariesInParallel) {
  EXPECT_THAT(includes("parallel/mpi/world.cc", "#include <mpi.h>"), IsEmpty());
  EXPECT_THAT(includes("core/io/a.cc", "#include <mpi.h>"), SizeIs(1));
  EXPECT_THAT(includes("trainer/loop.cc", "#include <nccl.h>"), SizeIs(1));
}

TEST(CheckIncludes, KeepsLibTorchSmallInHeadersAndOutOfTheFreeFolders) {
  EXPECT_THAT(includes("models/a.h", "#include <ATen/core/Tensor.h>"), IsEmpty());
  EXPECT_THAT(includes("models/a.cc", "#include <ATen/ops/cat.h>"), IsEmpty());
  EXPECT_THAT(includes("models/a.h", "#include <ATen/ops/cat.h>"), SizeIs(1));
  EXPECT_THAT(includes("models/a.cc", "#include <ATen/ATen.h>"), SizeIs(1));
  EXPECT_THAT(includes("models/a.cc", "#include <torch/torch.h>"), SizeIs(1));
  EXPECT_THAT(includes("core/config/a.cc", "#include <ATen/core/Tensor.h>"), SizeIs(1));
}

TEST(CheckIncludes, KeepsTheFloorsOfSubFolders) {
  EXPECT_THAT(includes("models/moe/losses/a.cc", "#include \"models/moe/router/b.h\""), IsEmpty());
  EXPECT_THAT(includes("models/moe/moe_layer.h", "#include \"models/moe/losses/b.h\""), IsEmpty());
  EXPECT_THAT(includes("models/layers/a.h", "#include \"models/layers/b.h\""), IsEmpty());
  EXPECT_THAT(includes("models/layers/a.h", "#include \"models/moe/b.h\""),
              ElementsAre(HasSubstr("models/layers must not include models/moe, which is not")));
  EXPECT_THAT(includes("models/moe/router/a.cc", "#include \"models/moe/losses/b.h\""), SizeIs(1));
  EXPECT_THAT(includes("models/moe/rules/a.cc", "#include \"models/moe/moe_layer.h\""), SizeIs(1));
  EXPECT_THAT(includes("models/decoder.cc", "#include \"models/inspect/cost.h\""), SizeIs(1));
  EXPECT_THAT(includes("core/io/a.cc", "#include \"core/tensor/b.h\""), SizeIs(1));
  EXPECT_THAT(includes("core/tensor/a.cc", "#include \"core/config/b.h\""), SizeIs(1));
  EXPECT_THAT(includes("trainer/log/a.cc", "#include \"trainer/b.h\""), SizeIs(1));
  EXPECT_THAT(includes("trainer/log/a.cc", "#include \"trainer/checkpoint/b.h\""), SizeIs(1));
  EXPECT_THAT(includes("trainer/checkpoint/a.cc", "#include \"trainer/b.h\""), SizeIs(1));
  EXPECT_THAT(includes("trainer/checkpoint/a.cc", "#include \"trainer/log/b.h\""), IsEmpty());
  EXPECT_THAT(includes("parallel/mpi/a.h", "#include \"parallel/b.h\""), IsEmpty());
}

TEST(CheckCircles, FindsUnitsThatIncludeEachOther) {
  const SourceFile above{"models/c.cc", "#include \"models/b.h\"\n"},
      header{"models/b.h", "#include \"core/io/file.h\"\n"},
      source{"models/b.cc", "#include \"models/b.h\"\n#include \"models/a.h\"\n"},
      below{"models/a.h", "#pragma once\n"}, back{"models/a.h", "#include \"models/b.h\"\n"};
  EXPECT_THAT(check_circles({above, header, source, below}), IsEmpty());
  EXPECT_THAT(check_circles({above, header, source, back}),
              ElementsAre(HasSubstr("models/a.h:1: it or its source includes models/b.h"),
                          HasSubstr("models/b.h:1: it or its source includes models/a.h")));
  EXPECT_THAT(check_circles({{"core/a.cc", "#include \"core/b.h\"\n"},
                             {"core/b.cc", "#include \"core/a.h\"\n"}}),
              SizeIs(2));
}

TEST(CheckShapes, KnowsTheLettersOfTheLegend) {
  const auto letters =
      parse_legend("//   B  sequences    E  experts (all)\n//   e  experts here\n");
  EXPECT_THAT(letters, ElementsAre('B', 'E', 'e'));
  EXPECT_THROW(parse_legend("//   B  sequences\n//   B  both\n"), std::runtime_error);
  const auto shapes = [&](const std::string& text) {
    return check_shapes({"models/a.cc", text}, letters);
  };
  EXPECT_THAT(shapes("x_BE = y_B1 + counts_Be + mask_1B + limits::quiet_NaN(); // z_Q\nconst char* "
                     "a = \"x_Q\";"),
              IsEmpty());
  EXPECT_THAT(shapes("int x;\nf(x_BQ, x_BQ);"),
              ElementsAre("models/a.cc:2: 'Q' of x_BQ is not in the legend of core/shapes.h"));
}

std::string function_of(int lines) {
  std::string text = "void forward() {\n";
  for (int i = 0; i < lines - 2; ++i) text += "  f();\n";
  return text + "}\n";
}

Findings sizes(const std::string& text, const std::vector<Waiver>& waivers = {}) {
  std::vector<std::string> used;
  return check_sizes({"models/a.cc", text}, waivers, used);
}

TEST(CheckSizes, LimitsFunctionsToSixtyLines) {
  EXPECT_THAT(sizes(function_of(60)), IsEmpty());
  EXPECT_THAT(sizes(function_of(61)),
              ElementsAre("models/a.cc:1: forward has 61 lines; at most 60"));
}

TEST(CheckSizes, LimitsFilesToFiveHundredLines) {
  EXPECT_THAT(sizes(std::string(500, '\n')), IsEmpty());
  EXPECT_THAT(sizes(std::string(501, '\n')), ElementsAre(HasSubstr("has 501 lines")));
}

TEST(CheckSizes, LimitsArgumentsToSix) {
  EXPECT_THAT(sizes("int f(int a, int b, int c, int d, int e, int g) { return a; }\n"), IsEmpty());
  EXPECT_THAT(sizes("int f(int a, int b, int c, int d, int e, int g, int h) { return a; }\n"),
              ElementsAre(HasSubstr("f has 7 arguments")));
}

TEST(CheckSizes, TakesAWaiverForOneFunctionUpToItsOwnLimit) {
  const std::vector<Waiver> waivers = {{"models/a.cc:forward", 70, "reads as the paper"}};
  std::vector<std::string> used;
  EXPECT_THAT(check_sizes({"models/a.cc", function_of(70)}, waivers, used), IsEmpty());
  EXPECT_THAT(used, ElementsAre("models/a.cc:forward"));
  EXPECT_THAT(sizes(function_of(71), waivers), SizeIs(1));
}

TEST(ParseWaivers, WantsALimitAndAReasonOnEachLine) {
  const auto waivers = parse_waivers("# why\n\nmodels/a.cc:forward 70 reads as the paper\n");
  ASSERT_THAT(waivers, SizeIs(1));
  EXPECT_EQ(waivers[0].limit, 70);
  EXPECT_EQ(waivers[0].reason, "reads as the paper");
  EXPECT_THROW(parse_waivers("models/a.cc:forward 70\n"), std::runtime_error);
  EXPECT_THROW(parse_waivers("models/a.cc:forward much too long\n"), std::runtime_error);
  EXPECT_THROW(parse_waivers("models/a.cc:forward 81 too long for anybody\n"), std::runtime_error);
}

TEST(CheckNotes, WantsAnIssueNumber) {
  const std::string word = std::string("TO") + "DO";
  EXPECT_THAT(check_notes({"core/a.cc", "int x;  // " + word + "(#12): lift the limit\n"}),
              IsEmpty());
  EXPECT_THAT(check_notes({"core/a.cc", "int x;\n// " + word + ": lift the limit\n"}),
              ElementsAre(HasSubstr("core/a.cc:2:")));
  EXPECT_THAT(check_notes({"core/a.cc", "// " + word + "(me): lift it\n"}), SizeIs(1));
}

TEST(CheckTestNames, RefusesNumbersAndDisabledTests) {
  EXPECT_THAT(check_test_names({"tests/a_test.cc", "TEST(Router, KeepsTestTokens) {}\n"}),
              IsEmpty());
  EXPECT_THAT(check_test_names({"tests/a_test.cc", "\nTEST_F(Router,\n       Test2) {}\n"}),
              ElementsAre(HasSubstr("tests/a_test.cc:2: 'Test2'")));
  EXPECT_THAT(check_test_names({"tests/a_test.cc", "TEST(Router, DISABLED_Works) {}\n"}),
              SizeIs(1));
}

}  // namespace
}  // namespace switchyard::layout
