#include "models/layer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/tensor/aten.h"
#include "core/tensor/differentiable.h"
#include "parallel/activity.h"

namespace switchyard::models {
namespace {

using ::testing::ElementsAre;

// Notes which layer is said to run, forward and backward.
class Probe final : public Layer {
 public:
  Probe(const parallel::PublishedWhereabouts& whereabouts, std::vector<int>& seen)
      : whereabouts_(whereabouts), seen_(seen) {}

  at::Tensor forward(const at::Tensor& x_TD, const Pass&, RoutingDecision&,
                     LayerState*) const override {
    seen_.push_back(read(whereabouts_).layer);
    const auto backward = [this](const at::Tensor& dy, const std::vector<bool>&) {
      seen_.push_back(read(whereabouts_).layer);
      return std::vector{dy * 2};
    };
    return differentiable("probe", {x_TD}, x_TD.detach() * 2, backward);
  }

 private:
  const parallel::PublishedWhereabouts& whereabouts_;
  std::vector<int>& seen_;
};

TEST(RunLayer, TellsWhichLayerRunsForwardBackwardAndAgain) {
  parallel::PublishedWhereabouts whereabouts{};
  parallel::Activity activity(whereabouts);
  for (const bool recompute : {false, true}) {
    std::vector<int> seen;
    const Probe probe(whereabouts, seen);
    Pass pass;
    pass.recompute = recompute;
    pass.context.activity = &activity;
    const at::Tensor x_TD = at::ones({3, 2}).requires_grad_(true);
    const at::Tensor y_TD = run_layer(probe, 8, run_layer(probe, 7, x_TD, pass), pass);
    y_TD.sum().backward();
    if (recompute) {
      EXPECT_THAT(seen, ElementsAre(7, 8, 8, 8, 7, 7));
    } else {
      EXPECT_THAT(seen, ElementsAre(7, 8, 8, 7));
    }
    EXPECT_TRUE(x_TD.grad().equal(at::full({3, 2}, 4.0)));
  }
}

}  // namespace
}  // namespace switchyard::models
