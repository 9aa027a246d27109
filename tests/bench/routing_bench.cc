// Routing against the router's matrix product: 16k tokens over 64 experts, 8 chosen, by width.
// Everything from the logits to the order in which rows are sent: scores, selection, weights,
// places. The aim is a "fraction" of at least 1 / 1.5. Usage: routing_bench [threads]

#include <cmath>
#include <cstdlib>

#include "core/tensor/aten.h"
#include "core/tensor/runtime.h"
#include "models/moe/placement/placement.h"
#include "models/moe/router/router.h"
#include "tests/bench/compare.h"

namespace switchyard {
namespace {

constexpr int64_t kTokens = 16384, kExperts = 64;

config::Moe moe_of(config::DropPolicy policy) {
  config::Moe moe;
  moe.set_num_experts(kExperts);
  moe.set_top_k(8);
  config::Router& router = *moe.mutable_router();
  router.set_score(config::SOFTMAX);
  router.set_selection(config::TOP_K);
  router.set_weighting(config::RENORMALIZE);
  router.set_weight_norm(1);
  router.set_route_scale(1);
  moe.mutable_capacity()->set_policy(policy);
  moe.mutable_capacity()->set_train_factor(1.25);
  moe.mutable_capacity()->set_counts_k(true);
  return moe;
}

void routing(benchmark::State& state, config::DropPolicy policy) {
  const at::NoGradGuard no_grad;
  const config::Moe moe = moe_of(policy);
  const int64_t width = state.range(0);
  const at::Tensor x = at::randn({kTokens, width}), weight = at::randn({kExperts, width});
  models::RouterInput input;
  input.logits_TE = at::mm(x, weight.t()) / std::sqrt(static_cast<double>(width));
  input.context.group_tokens = kTokens;
  models::StepContext context;
  context.training = true;
  context.group_tokens = kTokens;
  compare(
      state, [&] { at::mm(x, weight.t()); },
      [&] {
        const models::Routing routing = models::route_logits(input, moe, {});
        const models::Placement placement = models::place_slots(routing, moe, context, {});
        benchmark::DoNotOptimize(placement.assignment.order.slot_N.const_data_ptr());
      });
}

void at_widths(benchmark::internal::Benchmark* benchmark) {
  benchmark->UseManualTime()->Iterations(20)->Arg(512)->Arg(2048);
}

BENCHMARK_CAPTURE(routing, dropless, config::NO_DROP)->Apply(at_widths);
BENCHMARK_CAPTURE(routing, by_position, config::BY_POSITION)->Apply(at_widths);
BENCHMARK_CAPTURE(routing, batch_prioritized, config::BATCH_PRIORITIZED)->Apply(at_widths);

}  // namespace
}  // namespace switchyard

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  switchyard::configure_tensor_runtime(argc > 1 ? std::atoi(argv[1]) : 2);
  benchmark::RunSpecifiedBenchmarks();
}
