#include "models/inspect/traffic.h"

#include <map>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "models/inspect/census.h"
#include "models/inspect/step_estimate.h"
#include "tests/testing/tiny_model.h"

namespace switchyard::models {
namespace {

using testing::tiny_config;

std::map<std::string, double> bytes_by_name(const config::RunConfig& config,
                                            const MeshDegrees& degrees) {
  std::map<std::string, double> bytes;
  for (const TrafficTerm& term : traffic_per_step(config, MeshShape(degrees)))
    bytes[term.name] += term.bytes;
  return bytes;
}

TEST(Traffic, IsNoneOnOneRank) { EXPECT_TRUE(bytes_by_name(tiny_config(), {}).empty()); }

// A rank sends half of its gradients to the other, which adds that half up, and the sum of its own
// half.
TEST(Traffic, OfGradientsIsEachNumberOnceOnTwoRanks) {
  config::RunConfig config = tiny_config();
  config.mutable_runtime()->set_compute(config::FP32);
  const auto bytes = bytes_by_name(config, {.data = 2});
  EXPECT_EQ(bytes.size(), 2);
  EXPECT_EQ(bytes.at("gradients") + bytes.at("gradients of experts"),
            4.0 * static_cast<double>(census(config.model()).total));
}

// Half of the slots of a rank's tokens go to the other rank's experts, come home, and do both again
// in backward.
TEST(Traffic, OfExpertsIsFourJourneysOfTheSlotsThatLeave) {
  config::RunConfig config = tiny_config();
  config.mutable_runtime()->set_compute(config::FP32);
  const config::Model& model = config.model();
  const double tokens = double{1} * config.train().global_batch() * config.data().sequence_length();
  const double leaving = tokens / 2 * model.moe().top_k() / 2;
  const double journeys = 4 * leaving * model.d_model() * sizeof(float) * model.num_layers();
  const auto sent = [&] {
    return bytes_by_name(config, {.data = 2, .expert = 2}).at("rows to experts and back");
  };
  EXPECT_EQ(sent(), journeys);
  config.mutable_train()->set_recompute(config::RECOMPUTE_LAYER);
  EXPECT_EQ(sent(), 1.5 * journeys);
}

TEST(Traffic, KnowsWhichGroupsLeaveANode) {
  const MeshShape mesh({.data = 4, .tensor = 2, .expert = 4});
  EXPECT_EQ(share_between_nodes(mesh, Axis::kTensor, 4), 0);
  EXPECT_EQ(share_between_nodes(mesh, Axis::kExpert, 4), 0);
  EXPECT_EQ(share_between_nodes(mesh, Axis::kData, 4), 2.0 / 3);  // 0 2 | 4 6
  EXPECT_EQ(share_between_nodes(mesh, Axis::kExpertData, 4), 1);  // 0 | 4
  EXPECT_EQ(share_between_nodes(mesh, Axis::kData, 8), 0);
}

TEST(StepEstimate, AddsUpComputationAndLinks) {
  const config::RunConfig config = tiny_config();
  AssumedMachine machine;
  const MeshShape mesh({.data = 2, .expert = 2});
  const StepEstimate slow = estimate_step(config, mesh, machine);
  EXPECT_GT(slow.link_seconds, 0);
  EXPECT_EQ(slow.network_bytes, 0);
  machine.node_bytes *= 2;
  machine.message_seconds /= 2;
  const StepEstimate fast = estimate_step(config, mesh, machine);
  EXPECT_DOUBLE_EQ(fast.link_seconds, slow.link_seconds / 2);
  EXPECT_EQ(fast.compute_seconds, slow.compute_seconds);
  machine.node_ranks = 1;
  EXPECT_EQ(estimate_step(config, mesh, machine).node_bytes, 0);
  EXPECT_EQ(estimate_step(config, mesh, machine).network_bytes, slow.node_bytes);
}

}  // namespace
}  // namespace switchyard::models
