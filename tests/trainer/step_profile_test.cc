#include "trainer/log/step_profile.h"

#include <chrono>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/tensor/aten.h"
#include "core/tensor/differentiable.h"
#include "core/tensor/profiled_part.h"

namespace switchyard::trainer {
namespace {

using testing::Key;
using testing::UnorderedElementsAre;

constexpr auto kPause = std::chrono::milliseconds(20);

at::Tensor pause_in_backward(const at::Tensor& x) {
  return differentiable("pause", {x}, x.detach() * 2,
                        [](const at::Tensor& dy, const std::vector<bool>&) {
                          std::this_thread::sleep_for(kPause);
                          return std::vector{dy * 2};
                        });
}

TEST(StepProfile, CountsBackwardWhereForwardWas) {
  const at::Tensor x = at::ones({4}).requires_grad_();
  const StepProfile profile;
  at::Tensor y;
  {
    const ProfiledPart outer("sy::outer");
    {
      const ProfiledPart inner("sy::inner");
      y = pause_in_backward(x);
    }
    y = y.square();
  }
  y = pause_in_backward(y);  // in no part
  y.sum().backward();
  const auto& seconds = profile.seconds();
  ASSERT_THAT(seconds, UnorderedElementsAre(Key("outer"), Key("inner")));
  EXPECT_GE(seconds.at("inner"), std::chrono::duration<double>(kPause).count());
  EXPECT_LT(seconds.at("outer"), seconds.at("inner"));
}

}  // namespace
}  // namespace switchyard::trainer
