#include "models/moe/rules/balanced_assignment.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <queue>

#include "core/tensor/aten.h"
#include "core/tensor/top_k.h"

namespace switchyard::models {
namespace {

struct Bid {
  double price;
  int64_t row;
  bool operator>(const Bid& other) const {
    return price != other.price ? price > other.price : row > other.row;
  }
};
using LowestFirst = std::priority_queue<Bid, std::vector<Bid>, std::greater<>>;

// Bertsekas' auction for objects that come in equal copies. Rows bid for places at experts: what an
// expert is worth to a row less its price, over the same at the row's second choice, is what the
// row can raise the price by. `slack` more each time makes it end, and is what a row may lose.
class Auction {
 public:
  // worth [rows, experts]; rows = experts * places.
  Auction(const std::vector<double>& worth, int64_t experts)
      : worth_(worth),
        experts_(experts),
        places_(static_cast<int64_t>(worth.size()) / experts / experts),
        price_(experts, 0.0) {}

  // The expert of each row. Prices stay, so that a run with less slack starts near its end.
  std::vector<int64_t> run(double slack) {
    std::vector<LowestFirst> holders(experts_);
    const auto rows = static_cast<int64_t>(worth_.size()) / experts_;
    std::vector<int64_t> unplaced(rows), expert(rows, 0);
    for (int64_t row = 0; row < rows; ++row) unplaced[row] = rows - 1 - row;
    while (!unplaced.empty()) {
      const int64_t row = unplaced.back();
      unplaced.pop_back();
      const auto [best, margin] = preference(row);
      holders[best].push({price_[best] + margin + slack, row});
      expert[row] = best;
      if (static_cast<int64_t>(holders[best].size()) > places_) {
        unplaced.push_back(holders[best].top().row);
        holders[best].pop();
      }
      if (static_cast<int64_t>(holders[best].size()) == places_) {
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

  const std::vector<double>& worth_;
  int64_t experts_, places_;
  std::vector<double> price_;
};

// The rows' worths in steps of 1/1024: equal tokens are worth the same, whatever the last bits.
// Rows of zeros fill the last places.
std::vector<double> worths(const double* logits, int64_t experts,
                           const std::vector<int64_t>& tokens) {
  const auto count = static_cast<int64_t>(tokens.size());
  const int64_t rows = (count + experts - 1) / experts * experts;
  std::vector<double> worth(rows * experts, 0.0);
  for (int64_t i = 0; i < count; ++i) {
    for (int64_t e = 0; e < experts; ++e) {
      worth[i * experts + e] = std::nearbyint(logits[tokens[i] * experts + e] * 1024) / 1024;
    }
  }
  return worth;
}

}  // namespace

at::Tensor balanced_assignment(const at::Tensor& logits_TE, int64_t group_tokens,
                               const at::Tensor& is_real_T) {
  constexpr double kLastSlack = 5e-4;
  const at::Tensor logits = logits_TE.detach().to(at::kDouble).contiguous();
  const int64_t num_tokens = logits.size(0), experts = logits.size(1);
  // Beyond, a bid hardly raises a price, and the auction would not end; NaN is such a worth too.
  constexpr double kLargest = 1e9;
  const double largest = num_tokens > 0 ? logits.abs().max().item<double>() : 0;
  if (!(largest < kLargest)) return top_k_lowest_id(logits, 1);
  const bool* real = is_real_T.defined() ? is_real_T.const_data_ptr<bool>() : nullptr;
  at::Tensor id_T1 = at::zeros({num_tokens, 1}, at::kLong);
  auto* id = id_T1.mutable_data_ptr<int64_t>();
  for (int64_t begin = 0; begin < num_tokens; begin += group_tokens) {
    std::vector<int64_t> tokens;
    for (int64_t t = begin; t < begin + group_tokens; ++t) {
      if (!real || real[t]) tokens.push_back(t);
    }
    const std::vector<double> worth = worths(logits.const_data_ptr<double>(), experts, tokens);
    Auction auction(worth, experts);
    std::vector<int64_t> expert;
    for (double slack = std::max(1.0, largest / 4);; slack = std::max(slack / 4, kLastSlack)) {
      expert = auction.run(slack);
      if (slack == kLastSlack) break;
    }
    for (size_t i = 0; i < tokens.size(); ++i) id[tokens[i]] = expert[i];
  }
  return id_T1;
}

}  // namespace switchyard::models
