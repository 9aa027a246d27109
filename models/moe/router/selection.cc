#include "models/moe/router/selection.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "core/base/random.h"
#include "core/tensor/aten.h"

namespace switchyard::models {
namespace {

constexpr int64_t kGrainTokens = 256;

// Ids of the k largest of `row`, by insertion into a short sorted list: one comparison for most
// experts. Scanning upwards and moving up only past smaller values leaves ties with the lowest id.
template <typename T>
void best_of_row(const T* row, int64_t experts, int64_t k, int64_t* id) {
  int64_t held = 0;
  for (int64_t e = 0; e < experts; ++e) {
    if (held == k && !(row[e] > row[id[k - 1]])) continue;
    int64_t at = held < k ? held++ : k - 1;
    for (; at > 0 && row[e] > row[id[at - 1]]; --at) id[at] = id[at - 1];
    id[at] = e;
  }
}

// One group by itself, so that it ends after the same rounds whatever other groups its rank has.
at::Tensor sinkhorn_group(const at::Tensor& mass_SE) {
  constexpr int kMostRounds = 100;
  constexpr double kTolerance = 1e-4, kTiny = 1e-30;
  const at::Tensor tokens = mass_SE.sum(1).gt(0).sum().clamp_min(1);
  at::Tensor row = at::ones({mass_SE.size(0), 1}, at::kDouble), column;
  for (int round = 0; round < kMostRounds; ++round) {
    column = ((mass_SE * row).sum(0, true) * mass_SE.size(1)).clamp_min(kTiny).reciprocal();
    const at::Tensor next =
        ((mass_SE * column).sum(1, true) * tokens).clamp_min(kTiny).reciprocal();
    const bool settled = ((next - row).abs() / next).max().item<double>() < kTolerance;
    row = next;
    if (settled) break;
  }
  // In steps of 2^-16 of the even mass: where all tokens are equal so is the mass, and the last
  // bits, which depend on how the logits' matrix product was cut, must not decide.
  const double steps = static_cast<double>(mass_SE.numel()) * (1 << 16);
  return (mass_SE * row * column * steps).round() / steps;
}

}  // namespace

bool experts_choose(const config::Moe& moe) {
  const config::Selection selection = moe.router().selection();
  return selection == config::EXPERT_CHOICE || selection == config::STRICTLY_BALANCED;
}

int64_t num_choices(const config::Moe& moe) {
  if (experts_choose(moe)) return moe.num_experts();
  const bool tries = moe.capacity().policy() == config::NEXT_FREE && moe.capacity().rounds() > 0;
  return tries ? moe.capacity().rounds() : moe.top_k();
}

at::Tensor top_k_lowest_id(const at::Tensor& score_TE, int64_t k) {
  const at::Tensor score = score_TE.detach().contiguous();
  const int64_t tokens = score.size(0), experts = score.size(1);
  at::Tensor ids = at::empty({tokens, k}, at::kLong);
  auto* id = ids.mutable_data_ptr<int64_t>();
  AT_DISPATCH_FLOATING_TYPES(score.scalar_type(), "top_k_lowest_id", [&] {
    const auto* scores = score.const_data_ptr<scalar_t>();
    at::parallel_for(0, tokens, kGrainTokens, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        best_of_row(scores + t * experts, experts, k, id + t * k);
      }
    });
  });
  return ids;
}

at::Tensor keep_best_groups(const at::Tensor& score_TE, const config::Router& router) {
  const at::Tensor score = score_TE.detach();
  const int64_t tokens = score.size(0), experts = score.size(1), groups = router.num_groups();
  const at::Tensor grouped = score.view({tokens, groups, experts / groups});
  const at::Tensor group_score =
      std::get<0>(grouped.topk(router.group_score_experts(), -1)).sum(-1);
  const at::Tensor best = top_k_lowest_id(group_score, router.group_top_k());
  const at::Tensor hidden = at::ones({tokens, groups}, at::kBool).scatter_(1, best, false);
  return grouped.masked_fill(hidden.unsqueeze(-1), -std::numeric_limits<double>::infinity())
      .view({tokens, experts});
}

at::Tensor sample_by_score(const at::Tensor& score_TE, const at::Tensor& gumbel_TE, int64_t k) {
  return top_k_lowest_id(score_TE.detach().log() + gumbel_TE, k);
}

at::Tensor best_and_sampled(const at::Tensor& score_TE, const at::Tensor& gumbel_TE) {
  const at::Tensor first = top_k_lowest_id(score_TE, 1);
  const at::Tensor rest = score_TE.detach().scatter(1, first, 0.0);  // logarithm: -infinity
  return at::concat({first, sample_by_score(rest, gumbel_TE, 1)}, 1);
}

at::Tensor hash_choice(const at::Tensor& token_ids_T, int64_t num_experts, int64_t k,
                       uint64_t seed) {
  const at::Tensor ids = token_ids_T.contiguous();
  const int64_t* id = ids.const_data_ptr<int64_t>();
  at::Tensor key_TE = at::empty({ids.size(0), num_experts}, at::kFloat);
  auto* key = key_TE.mutable_data_ptr<float>();
  const Random random(seed, Stream::kRouterHash);
  at::parallel_for(0, ids.size(0), kGrainTokens, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      for (int64_t e = 0; e < num_experts; ++e) {
        key[t * num_experts + e] = random.uniform(id[t] * num_experts + e);
      }
    }
  });
  return top_k_lowest_id(key_TE, k);
}

at::Tensor sinkhorn(const at::Tensor& logits_TE, int64_t group_tokens,
                    const std::vector<uint8_t>& real) {
  at::Tensor mass_TE = logits_TE.detach().to(at::kDouble);
  mass_TE = (mass_TE - mass_TE.amax(-1, true)).exp();
  if (!real.empty()) mass_TE = mass_TE * at::tensor(real, at::kByte).unsqueeze(1);
  for (int64_t first = 0; first < mass_TE.size(0); first += group_tokens) {
    at::Tensor group = mass_TE.narrow(0, first, group_tokens);
    group.copy_(sinkhorn_group(group));
  }
  return mass_TE;
}

at::Tensor forced_choice(const ForcedChoice& options) {
  const auto& [tokens, k, num_experts, map, skewed] = options;
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
