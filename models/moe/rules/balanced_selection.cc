#include "models/moe/rules/balanced_selection.h"

#include <algorithm>
#include <compare>
#include <functional>
#include <limits>
#include <queue>
#include <vector>

#include "core/tensor/aten.h"
#include "core/tensor/top_k.h"
#include "models/pass/on_host.h"

namespace switchyard::models {
namespace {

// One group by itself, so that it ends after the same rounds whatever other groups its rank has.
at::Tensor sinkhorn_group(const at::Tensor& mass_TE) {
  constexpr int kMostRounds = 100;
  constexpr double kTolerance = 1e-4, kTiny = 1e-30;
  const at::Tensor tokens = mass_TE.sum(1).gt(0).sum().clamp_min(1);
  at::Tensor row = at::ones({mass_TE.size(0), 1}, mass_TE.options());
  at::Tensor column = at::ones({1, mass_TE.size(1)}, mass_TE.options());
  at::Tensor settled = at::zeros({}, mass_TE.options().dtype(at::kBool));
  for (int round = 0; round < kMostRounds; ++round) {
    const at::Tensor next_column =
        ((mass_TE * row).sum(0, true) * mass_TE.size(1)).clamp_min(kTiny).reciprocal();
    const at::Tensor next =
        ((mass_TE * next_column).sum(1, true) * tokens).clamp_min(kTiny).reciprocal();
    const at::Tensor change = ((next - row).abs() / next).max();
    column = at::where(settled, column, next_column);
    row = at::where(settled, row, next);
    settled = settled.logical_or(change.lt(kTolerance));
    // To look costs the host nothing, but makes it wait for a device, which runs all rounds.
    if (settled.is_cpu() && settled.item<bool>()) break;
  }
  // In steps of 2^-16 of the even mass: where all tokens are equal so is the mass, and the last
  // bits, which depend on how the logits' matrix product was cut, must not decide.
  const double steps = static_cast<double>(mass_TE.numel()) * (1 << 16);
  return (mass_TE * row * column * steps).round() / steps;
}

struct Bid {
  double price;
  int64_t row;
  auto operator<=>(const Bid& other) const = default;
};
using LowestFirst = std::priority_queue<Bid, std::vector<Bid>, std::greater<>>;

// Bertsekas' auction for objects that come in equal copies. Rows bid for places at experts: what an
// expert is worth to a row less its price, over the same at the row's second choice, is what the
// row can raise the price by. `slack` more each time makes it end, and is what a row may lose.
class Auction {
 public:
  // worth [rows, experts] float64 on the host; rows = experts * places.
  explicit Auction(const at::Tensor& worth)
      : worth_(worth.const_data_ptr<double>()),
        rows_(worth.size(0)),
        experts_(worth.size(1)),
        price_(experts_, 0.0) {}

  // The expert of each row. Prices stay, so that a run with less slack starts near its end.
  std::vector<int64_t> run(double slack) {
    const int64_t places = rows_ / experts_;
    std::vector<LowestFirst> holders(experts_);
    std::vector<int64_t> unplaced(rows_), expert(rows_, 0);
    for (int64_t row = 0; row < rows_; ++row) unplaced[row] = rows_ - 1 - row;
    while (!unplaced.empty()) {
      const int64_t row = unplaced.back();
      unplaced.pop_back();
      const auto [best, margin] = preference(row);
      holders[best].push({price_[best] + margin + slack, row});
      expert[row] = best;
      if (std::ssize(holders[best]) > places) {
        unplaced.push_back(holders[best].top().row);
        holders[best].pop();
      }
      if (std::ssize(holders[best]) == places) {
        price_[best] = std::max(price_[best], holders[best].top().price);
      }
    }
    return expert;
  }

 private:
  struct Preference {
    int64_t expert;
    double margin;
  };
  Preference preference(int64_t row) const {
    constexpr double kLowest = -std::numeric_limits<double>::infinity();
    int64_t best = 0;
    double first = kLowest, second = kLowest;
    for (int64_t e = 0; e < experts_; ++e) {
      const double value = worth_[row * experts_ + e] - price_[e];
      if (value > first) {
        second = first;
        first = value;
        best = e;
      } else {
        second = std::max(second, value);
      }
    }
    return {best, experts_ > 1 ? first - second : 0.0};
  }

  const double* worth_;
  int64_t rows_, experts_;
  std::vector<double> price_;
};

// The worths of a group's real tokens in steps of 1/1024: equal tokens are worth the same, whatever
// the last bits. Rows of zeros fill the last places.
at::Tensor worths(const at::Tensor& logits_TE, const at::Tensor& token_N) {
  const int64_t experts = logits_TE.size(1), tokens = token_N.numel();
  const int64_t rows = (tokens + experts - 1) / experts * experts;
  const at::Tensor worth = at::zeros({rows, experts}, at::kDouble);
  worth.narrow(0, 0, tokens).copy_((logits_TE.index_select(0, token_N) * 1024).round() / 1024);
  return worth;
}

}  // namespace

at::Tensor sinkhorn(const at::Tensor& logits_TE, int64_t group_tokens,
                    const at::Tensor& is_real_T) {
  at::Tensor mass_TE = logits_TE.detach().to(at::kDouble);
  mass_TE = (mass_TE - mass_TE.amax(-1, true)).exp();
  if (is_real_T.defined()) mass_TE = mass_TE * is_real_T.unsqueeze(1);
  for (int64_t first = 0; first < mass_TE.size(0); first += group_tokens) {
    at::Tensor group = mass_TE.narrow(0, first, group_tokens);
    group.copy_(sinkhorn_group(group));
  }
  return mass_TE;
}

at::Tensor balanced_assignment(const at::Tensor& logits_TE, int64_t group_tokens,
                               const at::Tensor& is_real_T) {
  constexpr double kLastSlack = 5e-4;
  const at::Tensor logits = on_host(logits_TE.detach().to(at::kDouble));
  const int64_t num_tokens = logits.size(0);
  // Beyond, a bid hardly raises a price, and the auction would not end; NaN is such a worth too.
  constexpr double kLargest = 1e9;
  const double largest = num_tokens > 0 ? logits.abs().max().item<double>() : 0;
  if (!(largest < kLargest)) return top_k_lowest_id(logits_TE, 1);
  const at::Tensor is_real =
      is_real_T.defined() ? on_host(is_real_T) : at::ones({num_tokens}, at::kBool);
  const at::Tensor id_T = at::zeros({num_tokens}, at::kLong);
  for (int64_t begin = 0; begin < num_tokens; begin += group_tokens) {
    const at::Tensor token_N = is_real.narrow(0, begin, group_tokens).nonzero().flatten() + begin;
    const at::Tensor worth = worths(logits, token_N);
    Auction auction(worth);
    std::vector<int64_t> expert;
    for (double slack = std::max(1.0, largest / 4);; slack = std::max(slack / 4, kLastSlack)) {
      expert = auction.run(slack);
      if (slack == kLastSlack) break;
    }
    id_T.index_copy_(0, token_N, at::tensor(expert).narrow(0, 0, token_N.numel()));
  }
  return id_T.unsqueeze(1).to(logits_TE.device());
}

}  // namespace switchyard::models
