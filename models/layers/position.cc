#include "models/layers/position.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "core/config/layers.h"
#include "core/tensor/aten.h"

namespace switchyard::models {
namespace {

// The channel pair that makes `rotations` turns over the original length.
double yarn_pair(const config::Attention& attention, double width, double rotations) {
  const double wavelengths =
      attention.yarn().original_length() / (2 * std::numbers::pi * rotations);
  return width * std::log(wavelengths) / (2 * std::log(attention.rope_theta()));
}

at::Tensor stretched(const at::Tensor& frequency, const config::Attention& attention,
                     int64_t width) {
  const config::Yarn& yarn = attention.yarn();
  const auto last = static_cast<double>(width - 1);
  const double low = std::max(std::floor(yarn_pair(attention, width, yarn.beta_fast())), 0.0);
  const double high = std::min(std::ceil(yarn_pair(attention, width, yarn.beta_slow())), last);
  const at::Tensor pair = at::arange(width / 2, at::kDouble);
  const at::Tensor ramp = ((pair - low) / std::max(high - low, 1e-3)).clamp(0, 1);
  return frequency * (ramp / yarn.factor() + (1 - ramp));
}

at::Tensor additive(const at::Tensor& visible, const at::TensorOptions& options) {
  return at::zeros(visible.sizes(), options)
      .masked_fill_(visible.logical_not(), -std::numeric_limits<double>::infinity());
}

// Whether query i of [length], at position seen + i, may look at each of seen + length keys.
at::Tensor causal(int64_t seen, int64_t length, int64_t window, const at::TensorOptions& options) {
  const at::Tensor all = at::ones({length, seen + length}, options.dtype(at::kBool));
  return window > 0 ? all.tril(seen).triu(seen - window + 1) : all.tril(seen);
}

int64_t bucket_of(int64_t distance, int64_t buckets, int64_t max_distance) {
  const int64_t exact = buckets / 2;
  if (distance < exact) return distance;
  const double octaves = std::log(static_cast<double>(distance) / static_cast<double>(exact)) /
                         std::log(static_cast<double>(max_distance) / static_cast<double>(exact));
  // Some distances lie on a boundary exactly, where rounding must not decide.
  const auto beyond = std::floor(octaves * static_cast<double>(buckets - exact) + 1e-9);
  return std::min(exact + static_cast<int64_t>(beyond), buckets - 1);
}

}  // namespace

RotaryTables rotary_tables(const config::Attention& attention, int64_t first, int64_t length) {
  const int64_t width = config::rotary_width(attention), half = width / 2;
  const at::Tensor exponent = at::arange(half, at::kDouble) / static_cast<double>(half);
  at::Tensor frequency = at::pow(attention.rope_theta(), -exponent);
  if (attention.has_yarn()) frequency = stretched(frequency, attention, width);
  const at::Tensor angle = at::outer(at::arange(first, first + length, at::kDouble), frequency);
  return {angle.cos().to(at::kFloat), angle.sin().to(at::kFloat)};
}

at::Tensor relative_buckets(const config::RelativeBias& options, int64_t first_query,
                            int64_t queries, int64_t keys, bool bidirectional) {
  const int64_t side = bidirectional ? options.num_buckets() / 2 : options.num_buckets();
  at::Tensor buckets = at::empty({queries, keys}, at::kLong);
  auto* bucket = buckets.mutable_data_ptr<int64_t>();
  for (int64_t i = 0; i < queries; ++i) {
    for (int64_t key = 0; key < keys; ++key) {
      const int64_t back = first_query + i - key;
      const bool later = back < 0 && bidirectional;
      const int64_t distance = later ? -back : std::max<int64_t>(back, 0);
      bucket[i * keys + key] =
          bucket_of(distance, side, options.max_distance()) + (later ? side : 0);
    }
  }
  return buckets;
}

at::Tensor document_mask(const at::Tensor& documents_BS, int64_t window,
                         const at::TensorOptions& options) {
  const at::Tensor same = documents_BS.unsqueeze(2) == documents_BS.unsqueeze(1);
  const at::Tensor earlier = causal(0, documents_BS.size(1), window, options);
  return additive(same.logical_and(earlier), options).unsqueeze(1);
}

at::Tensor continuation_mask(int64_t seen, int64_t length, int64_t window,
                             const at::TensorOptions& options) {
  const bool sees_all = length == 1 && (window == 0 || seen + 1 <= window);
  if (sees_all) return {};
  const at::Tensor earlier = causal(seen, length, window, options);
  return additive(earlier, options).unsqueeze(0).unsqueeze(0);
}

at::Tensor padding_mask(const at::Tensor& is_real_BS, const at::TensorOptions& options) {
  at::Tensor visible = is_real_BS.clone();
  visible.select(1, 0).fill_(true);
  return additive(visible, options).unsqueeze(1).unsqueeze(1);
}

}  // namespace switchyard::models
