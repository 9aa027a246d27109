#include "tests/layout/source_scan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace switchyard::layout {
namespace {

using testing::ElementsAre;
using testing::FieldsAre;
using testing::IsEmpty;

// One space for many.
std::string squeezed_code(std::string_view text) {
  std::string out;
  for (char c : code_only(text)) {
    if (c != ' ' || !out.ends_with(' ')) out += c;
  }
  return out;
}

TEST(CodeOnly, KeepsEveryOffset) {
  const std::string text = "a /* { */ b // }\nc = \"{\\\"\";\n#define X { \\\n  {\nint i;\n";
  EXPECT_EQ(code_only(text).size(), text.size());
}

TEST(CodeOnly, BlanksCommentsLiteralsAndDirectivesButKeepsLines) {
  EXPECT_EQ(squeezed_code("a /* { */ b // }\nc"), "a b \nc");
  EXPECT_EQ(squeezed_code("f(\"{\\\"\", '{', 1'000);"), "f(\" \", ' ', 1'000);");
  EXPECT_EQ(squeezed_code("#define X { \\\n  {\nint i;"), " \n \nint i;");
}

TEST(CodeOnly, KnowsRawStrings) {
  EXPECT_EQ(squeezed_code("x = R\"(\"}{)\"; y"), "x = ; y");
  EXPECT_EQ(squeezed_code("x = R\"q()\"{)q\"; y"), "x = ; y");
}

TEST(IncludesOf, TellsQuotedFromBracketsAndIgnoresComments) {
  EXPECT_THAT(
      includes_of("// #include \"no.h\"\n#include \"core/shapes.h\"\n#include <mpi.h>  // why\n"),
      ElementsAre(FieldsAre(2, "core/shapes.h", true), FieldsAre(3, "mpi.h", false)));
}

TEST(FunctionsOf, FindsFunctionsInNamespacesAndClasses) {
  const auto found = functions_of(R"(namespace a::b {
class C : public D {
 public:
  explicit C(int x) : x_(x), y_{1, {2}}, z_{3} {
    if (x) { y(); }
  }
  int get() const { return x_; }
  ~C();
  std::vector<int> data = {1, 2};
};
struct E { int i = 0; };
template <typename T, int N = 3>
[[nodiscard]] T C::make(const std::map<int, T>& m,
          std::vector<int> v = {}) const noexcept {
  return m;
}
}  // namespace a::b
)");
  EXPECT_THAT(found, ElementsAre(FieldsAre("C", 4, 3, 1), FieldsAre("get", 7, 1, 0),
                                 FieldsAre("C::make", 12, 5, 2)));
}

TEST(FunctionsOf, CountsFromTheSignatureToTheClosingBrace) {
  EXPECT_THAT(functions_of("\n\n// comment {\nvoid f(int a,\n       int b)\n{\n  g();\n}\n"),
              ElementsAre(FieldsAre("f", 4, 5, 2)));
}

TEST(FunctionsOf, IsNotMisledByLambdasLoopsAndLocalClasses) {
  const auto found = functions_of(R"(void f() {
  struct Local { int g() { return 1; } };
  for (int i = 0; i < 3; ++i) { h([&](int a, int b) { return a; }); }
}
auto bound = [](int a) { return a; };
)");
  EXPECT_THAT(found, ElementsAre(FieldsAre("f", 1, 4, 0), FieldsAre("bound", 5, 1, 1)));
}

TEST(FunctionsOf, KnowsOperatorsTestsAndAttributes) {
  const auto found = functions_of(R"(bool operator==(const A& a, const A& b) { return a == b; }
int A::operator()(int a, int b, int c) const { return 0; }
__attribute__((target("sse4.2"))) uint32_t crc(const void* p) { return 0; }
TEST(Router, KeepsOrder) {
}
extern "C" { int c_function(void) { return 1; } }
auto arrow(int (*f)(int, int), std::function<int(int)> g) -> int { return 1; }
)");
  EXPECT_THAT(found,
              ElementsAre(FieldsAre("operator==", 1, 1, 2), FieldsAre("operator()", 2, 1, 3),
                          FieldsAre("crc", 3, 1, 1), FieldsAre("TEST(Router, KeepsOrder)", 4, 2, 2),
                          FieldsAre("c_function", 6, 1, 0), FieldsAre("arrow", 7, 1, 2)));
}

TEST(FunctionsOf, SkipsTablesEnumsAndCallsAtNamespaceScope) {
  EXPECT_THAT(functions_of("enum class A : int { kB };\nconst int kTable[] = {1, f(2)};\n"
                           "std::array<int, 2> kPair{1, 2};\nconst X kX = make({1}, [] { g(); });\n"
                           "using F = void (*)(int);\nvoid declared(int a);\n"),
              IsEmpty());
}

}  // namespace
}  // namespace switchyard::layout
