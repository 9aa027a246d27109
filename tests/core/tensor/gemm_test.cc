#include "core/tensor/gemm.h"
#include "core/tensor/aten.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/errors.h"
#include "tests/core/tensor/op_case.h"
#include "tests/testing/near.h"

namespace switchyard {
namespace {

using testing::draw;
using testing::is_near;
using testing::tolerance_of;

struct Product {
  at::Tensor a, b;
};

// Each operand as stored or as the transpose of what is stored.
std::vector<Product> layouts(int64_t m, int64_t k, int64_t n, at::ScalarType type) {
  const at::Tensor a = draw({m, k}, type, 1), ta = draw({k, m}, type, 1).t();
  const at::Tensor b = draw({k, n}, type, 2), tb = draw({n, k}, type, 2).t();
  return {{a, b}, {a, tb}, {ta, b}, {ta, tb}};
}

void expect_exact(const Product& p, at::ScalarType out_type) {
  const at::Tensor start = draw({p.a.size(0), p.b.size(1)}, out_type, 3);
  const at::Tensor expected = at::mm(p.a.to(at::kDouble), p.b.to(at::kDouble));
  const double tolerance = tolerance_of(p.a.scalar_type());
  const at::Tensor out = start.clone();
  matmul(p.a, p.b, out);
  EXPECT_TRUE(is_near(out, expected, tolerance));
  out.copy_(start);
  matmul(p.a, p.b, out, /*accumulate=*/true);
  EXPECT_TRUE(is_near(out, expected + start, tolerance));
}

TEST(Matmul, MultipliesEveryLayoutAndAccumulates) {
  for (const at::ScalarType type : {at::kDouble, at::kFloat, at::kBFloat16}) {
    for (const Product& small : layouts(7, 5, 9, type)) expect_exact(small, type);
    for (const Product& large : layouts(96, 80, 112, type)) expect_exact(large, type);
  }
}

TEST(Matmul, AccumulatesBFloat16ProductsInFloat32) {
  for (const Product& p : layouts(33, 64, 48, at::kBFloat16)) expect_exact(p, at::kFloat);
}

TEST(Matmul, WritesIntoAPartOfALargerOutput) {
  const at::Tensor whole = at::zeros({50, 40});
  const Product p = layouts(20, 64, 40, at::kFloat)[1];
  matmul(p.a, p.b, whole.narrow(0, 10, 20));
  EXPECT_TRUE(is_near(whole.narrow(0, 10, 20), at::mm(p.a, p.b)));
  EXPECT_EQ(whole.narrow(0, 0, 10).abs().sum().item<float>(), 0);
  EXPECT_EQ(whole.narrow(0, 30, 20).abs().sum().item<float>(), 0);
}

TEST(Matmul, OfAnEmptySumIsZero) {
  const at::Tensor out = at::ones({3, 2});
  matmul(at::empty({3, 0}), at::empty({0, 2}), out, /*accumulate=*/true);
  EXPECT_TRUE(at::equal(out, at::ones({3, 2})));
  matmul(at::empty({3, 0}), at::empty({0, 2}), out);
  EXPECT_TRUE(at::equal(out, at::zeros({3, 2})));
  matmul(at::empty({0, 4}), at::empty({4, 2}), at::empty({0, 2}));
}

TEST(Matmul, RefusesOperandsOfTwoTypes) {
  EXPECT_THROW(matmul(at::ones({2, 2}), at::ones({2, 2}, at::kDouble), at::ones({2, 2})),
               CheckError);
}

// Restores the paths at the end of a test.
struct GemmPathsTest : ::testing::Test {
  ~GemmPathsTest() override { set_gemm_paths(before); }
  const GemmPaths before = gemm_paths();
};

TEST_F(GemmPathsTest, AreThoseOfTheProcessorUntilTheyAreSet) {
  EXPECT_EQ(before, fastest_gemm_paths());
  EXPECT_EQ(fastest_gemm_paths(), fastest_gemm_paths());
  if (!has_onednn(at::kFloat)) {
    EXPECT_EQ(before.float32, GemmPath::kAten);
  }
  if (!has_onednn(at::kBFloat16)) {
    EXPECT_EQ(before.bfloat16, GemmPath::kFloat32);
  }
}

TEST_F(GemmPathsTest, EachThatTheProcessorHasMultipliesExactlyEnough) {
  for (const GemmPath float32 : {GemmPath::kAten, GemmPath::kOneDnn}) {
    for (const GemmPath bfloat16 : {GemmPath::kFloat32, GemmPath::kOneDnn}) {
      const GemmPaths paths{float32, bfloat16};
      const bool has_float32 = float32 == GemmPath::kAten || has_onednn(at::kFloat);
      const bool has_bfloat16 = bfloat16 == GemmPath::kFloat32 || has_onednn(at::kBFloat16);
      if (!has_float32 || !has_bfloat16) {
        EXPECT_THROW(set_gemm_paths(paths), CheckError);
        continue;
      }
      set_gemm_paths(paths);
      for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
        for (const Product& p : layouts(96, 80, 112, type)) expect_exact(p, type);
      }
    }
  }
}

TEST(ProcessorName, NamesMakerModelAndInstructions) {
  EXPECT_THAT(processor_name(), ::testing::MatchesRegex("[A-Za-z]+ [0-9]+.[0-9]+, [A-Z0-9 ]+"));
}

}  // namespace
}  // namespace switchyard
