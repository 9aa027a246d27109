#include "models/moe/rules/fixed_choice.h"

#include <algorithm>
#include <vector>

#include "core/base/random.h"
#include "core/tensor/aten.h"
#include "core/tensor/top_k.h"
#include "models/pass/draws.h"
#include "models/pass/on_host.h"

namespace switchyard::models {

at::Tensor hash_choice(const at::Tensor& token_ids_T, int64_t num_experts, int64_t k,
                       uint64_t seed) {
  const at::Tensor ids = on_host(token_ids_T);
  const int64_t* id = ids.const_data_ptr<int64_t>();
  const Random random(seed, Stream::kRouterHash);
  const at::Tensor key_TE = fill_rows(
      ids.size(0), num_experts, at::kFloat,
      [&](int64_t token, int64_t e) { return random.uniform(id[token] * num_experts + e); });
  return top_k_lowest_id(key_TE, k);
}

at::Tensor forced_choice(int64_t tokens, int64_t k, int64_t num_experts, const TokenMap& map,
                         bool skewed) {
  at::Tensor ids = at::empty({tokens, k}, at::kLong);
  auto* id = ids.mutable_data_ptr<int64_t>();
  std::vector<double> cumulative(num_experts);
  double total = 0;
  for (int64_t e = 0; e < num_experts; ++e) {
    cumulative[e] = total += 1.0 / static_cast<double>(e + 1);
  }
  const Random random(0, Stream::kSynthetic);
  for (int64_t t = 0; t < tokens; ++t) {
    int64_t first = map.global(t) * k % num_experts;
    if (skewed) {
      const double draw = random.uniform(map.global(t)) * total;
      first = std::upper_bound(cumulative.begin(), cumulative.end(), draw) - cumulative.begin();
    }
    for (int64_t j = 0; j < k; ++j) id[t * k + j] = (first + j) % num_experts;
  }
  return ids;
}

}  // namespace switchyard::models
