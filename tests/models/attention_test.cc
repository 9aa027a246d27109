// Attention in all its forms against formulas written out token by token and head by head.

#include "models/layers/attention.h"

#include <cmath>
#include <functional>

#include <gtest/gtest.h>

#include "core/base/errors.h"
#include "core/config/reader.h"
#include "core/tensor/aten.h"
#include "models/layers/latent_attention.h"
#include "tests/testing/near.h"
#include "tests/testing/tiny_model.h"

namespace switchyard::models {
namespace {

using switchyard::testing::is_near;
using switchyard::testing::tiny_config;
using Vector = std::vector<double>;
using Vectors = std::vector<Vector>;

constexpr int64_t kLength = 7, kWidth = 16;

Vector to_vector(const at::Tensor& x) {
  const at::Tensor flat = x.contiguous().view(-1);
  return {flat.const_data_ptr<double>(), flat.const_data_ptr<double>() + flat.numel()};
}

double dot(const Vector& a, const Vector& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

// weight [rows, columns] as read by the module, times x.
Vector times(const at::Tensor& weight, const Vector& x) {
  Vector y;
  for (int64_t row = 0; row < weight.size(0); ++row) y.push_back(dot(to_vector(weight[row]), x));
  return y;
}

Vector part(const Vector& x, size_t begin, size_t count) {
  return {x.begin() + begin, x.begin() + begin + count};
}

void append(Vector& to, const Vector& x) { to.insert(to.end(), x.begin(), x.end()); }

Vector normed(const Vector& x, const Vector& weight, double eps) {
  Vector y;
  const double r = 1 / std::sqrt(dot(x, x) / static_cast<double>(x.size()) + eps);
  for (size_t i = 0; i < x.size(); ++i) y.push_back(x[i] * r * weight[i]);
  return y;
}

// Turns the pairs (first(i), second(i)) by position * frequency(i).
Vector turned(const Vector& x, int64_t position, bool neighbours, double theta) {
  Vector y = x;
  const size_t half = x.size() / 2;
  for (size_t i = 0; i < half; ++i) {
    const size_t a = neighbours ? 2 * i : i, b = neighbours ? 2 * i + 1 : i + half;
    const double angle =
        static_cast<double>(position) *
        std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(x.size()));
    y[a] = x[a] * std::cos(angle) - x[b] * std::sin(angle);
    y[b] = x[b] * std::cos(angle) + x[a] * std::sin(angle);
  }
  return y;
}

struct Weights {
  explicit Weights(ParameterTable& table) : table_(table) {}
  const at::Tensor& operator[](const std::string& name) const {
    for (const Parameter& p : table_.parameters())
      if (p.name == name) return p.master;
    throw CheckError("no parameter " + name);
  }
  ParameterTable& table_;
};

// One head: score(i, j) for the visible j of position i, then the weighted mean of values.
Vectors head_output(const std::function<double(int64_t, int64_t)>& score, const Vectors& values,
                    int64_t window) {
  Vectors out;
  for (int64_t i = 0; i < kLength; ++i) {
    const int64_t first = window > 0 ? std::max<int64_t>(0, i - window + 1) : 0;
    double total = 0;
    Vector y(values[0].size());
    for (int64_t j = first; j <= i; ++j) {
      const double weight = std::exp(score(i, j));
      total += weight;
      for (size_t c = 0; c < y.size(); ++c) y[c] += weight * values[j][c];
    }
    for (double& value : y) value /= total;
    out.push_back(y);
  }
  return out;
}

at::Tensor combined(const std::vector<Vectors>& heads, const at::Tensor& out_weight) {
  at::Tensor y = at::empty({kLength, kWidth}, at::kDouble);
  for (int64_t i = 0; i < kLength; ++i) {
    Vector joined;
    for (const Vectors& head : heads) append(joined, head[i]);
    y[i] = at::tensor(times(out_weight, joined), at::kDouble);
  }
  return y;
}

// Queries, keys and values of all heads at every position, under the config's options.
struct Projected {
  std::vector<Vectors> query, key, value;  // [head][position]
};

Projected project(const config::Model& model, const Weights& w, const at::Tensor& x_TD) {
  const config::Attention& options = model.attention();
  const size_t d = options.head_dim(), H = options.num_heads(), KV = options.num_kv_heads();
  Projected result{std::vector<Vectors>(H), std::vector<Vectors>(KV), std::vector<Vectors>(KV)};
  for (int64_t t = 0; t < kLength; ++t) {
    Vector joint = times(w["a.qkv"], to_vector(x_TD[t]));
    if (options.qkv_bias())
      for (size_t i = 0; i < joint.size(); ++i) joint[i] += w["a.qkv_bias"][i].item<double>();
    Vector q = part(joint, 0, H * d), k = part(joint, H * d, KV * d),
           v = part(joint, (H + KV) * d, KV * d);
    if (options.qk_norm() == config::FULL_WIDTH) {
      q = normed(q, to_vector(w["a.q_norm"]), model.norm_eps());
      k = normed(k, to_vector(w["a.k_norm"]), model.norm_eps());
    }
    if (options.qkv_clip() > 0)
      for (Vector* vector : {&q, &k, &v})
        for (double& value : *vector)
          value = std::min(std::max(value, -options.qkv_clip()), options.qkv_clip());
    const auto placed = [&](const Vector& x, const char* norm) {
      const Vector y = options.qk_norm() == config::PER_HEAD
                           ? normed(x, to_vector(w[norm]), model.norm_eps())
                           : x;
      return options.position() == config::ROPE ? turned(y, t, false, options.rope_theta()) : y;
    };
    for (size_t h = 0; h < H; ++h) result.query[h].push_back(placed(part(q, h * d, d), "a.q_norm"));
    for (size_t h = 0; h < KV; ++h) {
      result.key[h].push_back(placed(part(k, h * d, d), "a.k_norm"));
      result.value[h].push_back(part(v, h * d, d));
    }
  }
  return result;
}

at::Tensor slow_attention(const config::Model& model, const Weights& w, const at::Tensor& x_TD) {
  const config::Attention& options = model.attention();
  const Projected p = project(model, w, x_TD);
  std::vector<Vectors> heads;
  for (int64_t h = 0; h < options.num_heads(); ++h) {
    const int64_t kv = h / (options.num_heads() / options.num_kv_heads());
    const auto score = [&](int64_t i, int64_t j) {
      double value = dot(p.query[h][i], p.key[kv][j]) * options.scale();
      if (options.logit_cap() > 0)
        value = options.logit_cap() * std::tanh(value / options.logit_cap());
      if (options.position() == config::RELATIVE_BIAS)  // distances below 16 are their own bucket
        value += w["a.relative_bias"][i - j][h].item<double>();
      return value;
    };
    heads.push_back(head_output(score, p.value[kv], options.sliding_window()));
  }
  return combined(heads, w["a.out"]);
}

// Resolved from text, as a run's config is.
config::Model model_with(const std::string& attention) {
  return config::load_config_text(
             "model { num_layers: 1 d_model: 16 d_ff: 8 vocab_size: 8 init_std: 0.5 attention { "
             "num_heads: 4 " +
                 attention +
                 " } } data { synthetic {} } train { steps: 1 "
                 "global_batch: 1 }",
             "attention_test")
      .model();
}

AttentionInput input_of(const config::Model& model) {
  AttentionInput input;
  input.sequences = 1;
  input.length = kLength;
  input.mask_B1SS = document_mask(at::zeros({1, kLength}, at::kInt),
                                  model.attention().sliding_window(), at::kDouble);
  if (model.attention().position() == config::ROPE)
    input.rotary = rotary_tables(model.attention(), 0, kLength);
  else
    input.bucket_SS =
        relative_buckets(model.attention().relative_bias(), 0, kLength, kLength, false);
  return input;
}

at::Tensor states() {
  at::manual_seed(2);
  return at::randn({kLength, kWidth}, at::kDouble);
}

void start(ParameterTable& table) {
  table.allocate(at::kDouble);
  table.initialize(9);
  // Away from 1 and 0, where a forgotten norm weight or bias would not show.
  for (Parameter& parameter : table.parameters())
    if (parameter.parts[0].init.kind == Init::kConstant) parameter.master.uniform_(0.3, 1.7);
}

struct EveryAttention : ::testing::TestWithParam<const char*> {};

TEST_P(EveryAttention, EqualsItsFormulaTokenByToken) {
  const config::Model model = model_with(GetParam());
  ParameterTable table;
  const Attention attention(Scope(table) / "a", model, nullptr);
  start(table);
  const at::Tensor x = states();
  const at::NoGradGuard no_grad;
  // The tables of angles are float32.
  EXPECT_TRUE(is_near(attention.forward(x, input_of(model), nullptr),
                      slow_attention(model, Weights(table), x), 1e-6));
}

INSTANTIATE_TEST_SUITE_P(
    Options, EveryAttention,
    ::testing::Values("", "num_kv_heads: 2", "num_kv_heads: 1 head_dim: 6", "qkv_bias: true",
                      "qkv_clip: 0.7 num_kv_heads: 2", "qk_norm: FULL_WIDTH num_kv_heads: 2",
                      "qk_norm: FULL_WIDTH qkv_clip: 0.7", "qk_norm: PER_HEAD num_kv_heads: 2",
                      "logit_cap: 0.8 num_kv_heads: 2", "sliding_window: 3",
                      "sliding_window: 3 logit_cap: 0.8", "position: RELATIVE_BIAS",
                      "position: RELATIVE_BIAS logit_cap: 0.8 qkv_bias: true", "scale: 0.1"));

at::Tensor slow_latent_attention(const config::Model& model, const Weights& w,
                                 const at::Tensor& x_TD) {
  const config::Latent& sizes = model.attention().latent();
  const size_t n = sizes.nope_dim(), p = sizes.rope_dim(), v = sizes.value_dim();
  const double theta = model.attention().rope_theta(), eps = model.norm_eps();
  std::vector<Vectors> query(4), key(4), value(4);
  for (int64_t t = 0; t < kLength; ++t) {
    const Vector x = to_vector(x_TD[t]), down = times(w["a.kv_down"], x);
    const Vector latent = normed(part(down, 0, sizes.kv_rank()), to_vector(w["a.kv_norm"]), eps);
    const Vector shared = turned(part(down, sizes.kv_rank(), p), t, true, theta);
    const Vector up = times(w["a.kv_up"], latent);
    const Vector q =
        sizes.q_rank() > 0
            ? times(w["a.q_up"], normed(times(w["a.q_down"], x), to_vector(w["a.q_norm"]), eps))
            : times(w["a.q"], x);
    for (size_t h = 0; h < 4; ++h) {
      query[h].push_back(part(q, h * (n + p), n));
      append(query[h].back(), turned(part(q, h * (n + p) + n, p), t, true, theta));
      key[h].push_back(part(up, h * (n + v), n));
      append(key[h].back(), shared);
      value[h].push_back(part(up, h * (n + v) + n, v));
    }
  }
  std::vector<Vectors> heads;
  for (size_t h = 0; h < 4; ++h) {
    const auto score = [&](int64_t i, int64_t j) {
      return dot(query[h][i], key[h][j]) * model.attention().scale();
    };
    heads.push_back(head_output(score, value[h], 0));
  }
  return combined(heads, w["a.out"]);
}

TEST(LatentAttention, EqualsItsFormulaTokenByToken) {
  for (const char* q_rank : {"", "q_rank: 5"}) {
    const config::Model model = model_with(
        std::string("latent { kv_rank: 6 rope_dim: 4 nope_dim: 3 value_dim: 5 ") + q_rank + " }");
    ParameterTable table;
    const LatentAttention attention(Scope(table) / "a", model);
    start(table);
    const at::Tensor x = states();
    const at::NoGradGuard no_grad;
    EXPECT_TRUE(is_near(attention.forward(x, input_of(model), nullptr),
                        slow_latent_attention(model, Weights(table), x), 1e-6));
  }
}

TEST(LatentAttention, KeepsOnlyTheLatentAndTheSharedKey) {
  const config::Model model =
      model_with("latent { kv_rank: 6 rope_dim: 4 nope_dim: 3 value_dim: 5 }");
  ParameterTable table;
  const LatentAttention attention(Scope(table) / "a", model);
  start(table);
  KvCache cache;
  attention.forward(states(), input_of(model), &cache);
  EXPECT_EQ(cache.key_BHSd.sizes(), at::IntArrayRef({1, 1, kLength, 4}));
  EXPECT_EQ(cache.value_BHSd.sizes(), at::IntArrayRef({1, 1, kLength, 6}));
}

TEST(Yarn, MatchesThePublishedConstants) {
  // DeepSeek-V2 and V2-Lite: 192^-0.5 * 1.2608^2; V3: mscale 1.
  const config::Model v2 =
      model_with("latent {} yarn { factor: 40 original_length: 4096 mscale: 0.707 }");
  EXPECT_NEAR(v2.attention().scale(), 0.114721, 1e-6);
  const config::Model v3 = model_with("latent {} yarn { factor: 40 original_length: 4096 }");
  EXPECT_NEAR(v3.attention().scale() * std::sqrt(192.0), 1.873854, 1e-6);
}

TEST(Yarn, DividesSlowFrequenciesAndKeepsFastOnes) {
  const config::Model model = model_with("latent {} yarn { factor: 40 original_length: 4096 }");
  // The angle of position 1 is the frequency; the ramp runs from pair 10 to pair 23.
  const RotaryTables tables = rotary_tables(model.attention(), 1, 1);
  for (int64_t i = 0; i < 32; ++i) {
    const double plain = std::pow(10000.0, -2.0 * static_cast<double>(i) / 64);
    const double ramp = std::min(std::max((static_cast<double>(i) - 10) / 13, 0.0), 1.0);
    const double expected = plain / 40 * ramp + plain * (1 - ramp);
    EXPECT_NEAR(tables.sin_Sd[0][i].item<double>(), std::sin(expected), 1e-7) << i;
  }
}

// The published example's ramp is from 10.472 to 22.513 at width 64, before it is widened to whole
// pairs. It grows with the width, so that a thousandfold one shows those digits.
TEST(Yarn, RampHasThePublishedBounds) {
  constexpr int kPairs = 32'000;
  config::Model model = model_with("latent {} yarn { factor: 40 original_length: 4096 }");
  model.mutable_attention()->mutable_latent()->set_rope_dim(2 * kPairs);
  const at::Tensor plain = at::pow(10000.0, at::arange(kPairs, at::kDouble) / -kPairs);
  const at::Tensor sine = rotary_tables(model.attention(), 1, 1).sin_Sd[0].to(at::kDouble);
  const at::Tensor kept = sine.asin() / plain;
  EXPECT_EQ(kept.gt(1 - 1e-5).sum().item<int64_t>(), 10'472 + 1);
  EXPECT_EQ(kept.gt((1 + 1e-5) / 40).sum().item<int64_t>(), 22'513 + 1);
}

TEST(RelativeBuckets, MatchT5InBothDirections) {
  config::RelativeBias options;
  options.set_num_buckets(32);
  options.set_max_distance(128);
  const at::Tensor causal = relative_buckets(options, 200, 1, 201, false)[0];
  const at::Tensor both = relative_buckets(options, 200, 1, 401, true)[0];
  const auto back = [](const at::Tensor& buckets, int64_t distance) {
    return buckets[200 - distance].item<int64_t>();
  };
  // The first distance of each bucket.
  const std::vector<int64_t> causal_starts = {16, 19, 21, 24, 27, 31, 35, 40,
                                              46, 52, 59, 67, 77, 87, 99, 113};
  for (int64_t i = 0; i < 16; ++i) {
    EXPECT_EQ(back(causal, i), i);
    EXPECT_EQ(back(causal, causal_starts[i]), 16 + i);
    EXPECT_EQ(back(causal, causal_starts[i] - 1), 15 + i);
  }
  const std::vector<int64_t> starts = {8, 12, 16, 23, 32, 46, 64, 91};
  for (int64_t i = 0; i < 8; ++i) {
    EXPECT_EQ(back(both, i), i);
    EXPECT_EQ(back(both, starts[i]), 8 + i);
    EXPECT_EQ(back(both, starts[i] - 1), 7 + i);
    EXPECT_EQ(back(both, -starts[i]), 16 + 8 + i);  // later keys
  }
  EXPECT_EQ(back(causal, 200), 31);
  EXPECT_EQ(back(both, 200), 15);
}

TEST(RelativeBuckets, GiveLaterKeysBucketZeroWhenCausal) {
  config::RelativeBias options;
  options.set_num_buckets(32);
  options.set_max_distance(128);
  EXPECT_EQ(relative_buckets(options, 0, 1, 50, false).max().item<int64_t>(), 0);
}

}  // namespace
}  // namespace switchyard::models
