#include "core/config/suggest.h"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace switchyard::config {
namespace {

constexpr size_t kLongestName = 60;  // longer ones get no suggestion
constexpr size_t kShortList = 16;    // as many candidates are listed in full

// Edits (insert, delete, replace, swap of neighbours) that turn a into b.
int edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::vector<int>> cost(a.size() + 1, std::vector<int>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i) cost[i][0] = static_cast<int>(i);
  for (size_t j = 0; j <= b.size(); ++j) cost[0][j] = static_cast<int>(j);
  for (size_t i = 1; i <= a.size(); ++i) {
    for (size_t j = 1; j <= b.size(); ++j) {
      const int replaced = cost[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
      cost[i][j] = std::min({cost[i - 1][j] + 1, cost[i][j - 1] + 1, replaced});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        cost[i][j] = std::min(cost[i][j], cost[i - 2][j - 2] + 1);
    }
  }
  return cost[a.size()][b.size()];
}

}  // namespace

std::string suggestion(std::string_view name, const std::vector<std::string>& candidates) {
  std::vector<std::string> longer;  // a name that was left short
  for (const std::string& candidate : candidates) {
    if (!name.empty() && candidate.starts_with(name)) longer.push_back(candidate);
  }
  if (longer.size() == 1) return fmt::format("; nearest: \"{}\"", longer.front());
  if (!longer.empty() && longer.size() <= kShortList)
    return fmt::format("; one of: {}", fmt::join(longer, ", "));
  std::string best;
  int best_distance = static_cast<int>(name.size());
  if (name.size() <= kLongestName) {
    for (const std::string& candidate : candidates) {
      const int distance = edit_distance(name, candidate);
      if (distance < best_distance) {
        best_distance = distance;
        best = candidate;
      }
    }
  }
  // A third of the letters wrong is still a typing mistake; more is another word.
  if (!best.empty() && best_distance <= std::max<int>(1, static_cast<int>(best.size()) / 3))
    return fmt::format("; nearest: \"{}\"", best);
  if (candidates.empty() || candidates.size() > kShortList) return "";
  return fmt::format("; one of: {}", fmt::join(candidates, ", "));
}

}  // namespace switchyard::config
