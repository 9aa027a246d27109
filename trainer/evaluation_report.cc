// The tables of trainer/evaluate.h.

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "trainer/evaluate.h"
#include "trainer/log/step_record.h"

namespace switchyard::trainer {
namespace {

size_t name_width(const std::vector<SourceResult>& results) {
  size_t width = 8;
  for (const SourceResult& result : results) width = std::max(width, result.name.size());
  return width;
}

// Cases of a table have an error and classes that are right or wrong, and no perplexity.
std::string case_table(const std::vector<SourceResult>& results, size_t width) {
  std::string text = fmt::format("{:<{}}  {:>8}  {:>8}  {:>8}  {:>6}\n", "source", width, "loss",
                                 "error", "accuracy", "cases");
  for (const SourceResult& r : results)
    text += fmt::format("{:<{}}  {:>8.4f}  {:>8.4f}  {:>8.4f}  {:>6}\n", r.name, width, r.loss,
                        r.sums.at("error").mean(), r.sums.at("accuracy").mean(), r.targets);
  return text;
}

}  // namespace

double mutual_information(const std::vector<SourceResult>& results, size_t layer) {
  const auto num_sources = static_cast<double>(results.size());
  std::vector<double> mean;
  for (const SourceResult& result : results) {
    const auto share = expert_shares(result.layers[layer]);
    mean.resize(share.size());
    for (size_t e = 0; e < share.size(); ++e) mean[e] += share[e] / num_sources;
  }
  double bits = 0;
  for (const SourceResult& result : results) {
    const auto share = expert_shares(result.layers[layer]);
    for (size_t e = 0; e < share.size(); ++e) {
      if (share[e] > 0) bits += share[e] / num_sources * std::log2(share[e] / mean[e]);
    }
  }
  return bits;
}

std::string loss_table(const std::vector<SourceResult>& results) {
  if (!results.empty() && results[0].sums.contains("error"))
    return case_table(results, name_width(results));
  const size_t width = name_width(results);
  std::string text = fmt::format("{:<{}}  {:>8}  {:>10}  {:>9}  {:>8}\n", "source", width, "loss",
                                 "perplexity", "bits/byte", "targets");
  for (const SourceResult& r : results) {
    const std::string bits = r.text_bytes > 0 ? fmt::format("{:.4f}", r.bits_per_byte()) : "-";
    text += fmt::format("{:<{}}  {:>8.4f}  {:>10.2f}  {:>9}  {:>8}\n", r.name, width, r.loss,
                        std::exp(r.loss), bits, format_count(static_cast<double>(r.targets)));
  }
  return text + fmt::format("{:<{}}  {:>8.4f}\n", "all", width, mean_loss(results));
}

std::string expert_table(const std::vector<SourceResult>& results) {
  std::string text;
  const size_t width = name_width(results);
  const size_t num_layers = results.empty() ? 0 : results[0].layers.size();
  for (size_t layer = 0; layer < num_layers; ++layer) {
    text += fmt::format(
        "MoE layer {}: share of slots per expert, %; mutual information of source and expert "
        "{:.3f} bits\n",
        layer, mutual_information(results, layer));
    for (const SourceResult& result : results) {
      text += fmt::format("  {:<{}}", result.name, width);
      for (const double share : expert_shares(result.layers[layer]))
        text += fmt::format(" {:>5.1f}", 100 * share);
      text += "\n";
    }
  }
  return text;
}

}  // namespace switchyard::trainer
