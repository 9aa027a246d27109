// How the auxiliary losses of several MoE layers become one: whole decoders of two layers.

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "models/pass/stats.h"
#include "tests/models/decoder_fixture.h"
#include "tests/testing/near.h"

namespace switchyard::models {
namespace {

using switchyard::testing::is_near;

constexpr int64_t kLayers = 2, kExperts = 4, kChoices = 2, kTokens = kRows * kLength;
constexpr double kEps = 1e-5;

config::Model model_with(config::LayerAggregation aggregation, double coefficient) {
  config::Model model = model_of(
      "moe { num_experts: 4 top_k: 2 d_ff: 8 } "
      "attention { num_heads: 4 }");
  model.set_norm_eps(kEps);
  config::Moe& moe = *model.mutable_moe();
  moe.set_layer_aggregation(aggregation);
  moe.mutable_balance_loss()->set_coefficient(coefficient);
  moe.mutable_balance_loss()->set_load(config::ALL_CHOICES);
  moe.set_z_loss_coefficient(coefficient);
  moe.set_importance_loss_coefficient(coefficient);
  return model;
}

using Gradients = std::map<std::string, at::Tensor>;

Gradients gradients_of(const config::Model& model) {
  const DecoderInstance instance(model);
  instance.loss(batch()).backward();
  Gradients gradients;
  for (const Parameter& parameter : instance.table.parameters())
    gradients[parameter.name] = parameter.grad;
  return gradients;
}

TEST(LayerAggregation, AMeanHasTheGradientOfTheSumOverTheLayers) {
  const Gradients plain = gradients_of(model_with(config::SUM_OVER_LAYERS, 0));
  const Gradients sum = gradients_of(model_with(config::SUM_OVER_LAYERS, 0.5));
  const Gradients mean = gradients_of(model_with(config::MEAN_OVER_LAYERS, 0.5));
  for (const auto& [name, without] : plain) {
    SCOPED_TRACE(name);
    const at::Tensor of_sum = sum.at(name) - without, of_mean = mean.at(name) - without;
    // All but the last layer's experts, after which there is no router.
    const bool moves = !name.starts_with("layers.1.moe.experts") && name != "final_norm";
    EXPECT_EQ(of_sum.abs().max().item<double>() > 1e-4, moves);
    EXPECT_TRUE(!moves || is_near(of_mean * kLayers, of_sum, 1e-9));
  }
}

// Layers that add nothing, so that every router sees the normalised embeddings.
void silence_layers(DecoderInstance& instance) {
  for (Parameter& parameter : instance.table.parameters()) {
    const bool adds = parameter.name.ends_with(".out") || parameter.name.ends_with(".w2");
    if (adds) parameter.master.zero_();
  }
}

struct Load {
  std::vector<double> chosen = std::vector<double>(kExperts);
  std::vector<double> mass = std::vector<double>(kExperts);
};

// Adds one token of a layer: its probabilities, and its choices among them.
void add_token(const at::Tensor& x_D, const at::Tensor& router_ED, Load& load) {
  const int64_t width = x_D.numel();
  double squares = 0, sum = 0;
  for (int64_t d = 0; d < width; ++d) squares += std::pow(x_D[d].item<double>(), 2);
  const double rms = std::sqrt(squares / static_cast<double>(width) + kEps);
  std::vector<double> p(kExperts);
  for (int64_t e = 0; e < kExperts; ++e) {
    double logit = 0;
    for (int64_t d = 0; d < width; ++d)
      logit += router_ED[e][d].item<double>() * x_D[d].item<double>() / rms;
    p[e] = std::exp(logit);
    sum += p[e];
  }
  for (int64_t e = 0; e < kExperts; ++e) {
    load.mass[e] += p[e] / sum;
    load.chosen[e] +=
        std::ranges::count_if(p, [&](double other) { return other > p[e]; }) < kChoices;
  }
}

double balance_of(const Load& load, double tokens) {
  double loss = 0;
  for (int64_t e = 0; e < kExperts; ++e)
    loss += kExperts * (load.chosen[e] / (kChoices * tokens)) * (load.mass[e] / tokens);
  return loss;
}

TEST(LayerAggregation, APoolReportsTheBalanceOfBothLayersTokensTogether) {
  DecoderInstance instance(model_with(config::POOLED_LAYERS, 0.5));
  silence_layers(instance);
  std::map<std::string, at::Tensor> weight;
  for (const Parameter& parameter : instance.table.parameters())
    weight[parameter.name] = parameter.master.view(parameter.shape);
  const at::Tensor tokens = batch().tokens_BS.flatten();
  Load all;
  double mean = 0;
  for (const char* name : {"layers.0.moe.router.weight", "layers.1.moe.router.weight"}) {
    Load layer;
    for (int64_t t = 0; t < kTokens; ++t) {
      const at::Tensor x_D = weight.at("embedding")[tokens[t].item<int64_t>()];
      for (Load* load : {&all, &layer}) add_token(x_D, weight.at(name), *load);
    }
    mean += balance_of(layer, kTokens) / kLayers;
  }
  std::vector<RoutingSums> sums(kLayers);
  const at::Tensor loss = instance.loss(batch(), true, nullptr, &sums);
  const double pooled = balance_of(all, kLayers * kTokens);
  for (const RoutingStats& layer : numbers_of(sums))
    EXPECT_NEAR(layer.losses[RouterLoss::kBalance], pooled, 1e-12);
  EXPECT_GT(std::abs(mean - pooled), 1e-3);
}

}  // namespace
}  // namespace switchyard::models
