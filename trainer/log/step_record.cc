#include "trainer/log/step_record.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include <fmt/format.h>

#include "core/base/grouped.h"

namespace switchyard::trainer {
namespace {

void append_layer(JsonLinesRecord& record, const std::string& prefix, const LayerHealth& health) {
  for (const auto& [loss, value] : health.losses)
    record.emplace_back(prefix + models::kind_of(loss).metric, value);
  record.emplace_back(prefix + "reject", health.reject_share);
  record.emplace_back(prefix + "drop", health.drop_share);
  record.emplace_back(prefix + "load_max_mean", health.load_max_mean);
  record.emplace_back(prefix + "load_cv", health.load_cv);
  record.emplace_back(prefix + "load_entropy", health.load_entropy);
  record.emplace_back(prefix + "router_entropy", health.router_entropy);
  record.emplace_back(prefix + "dead", health.dead_experts);
  if (!health.expert_load.empty()) record.emplace_back(prefix + "expert_load", health.expert_load);
}

}  // namespace

std::vector<double> expert_shares(const models::RoutingStats& stats) {
  const auto total =
      static_cast<double>(std::accumulate(stats.load.begin(), stats.load.end(), int64_t{0}));
  std::vector<double> shares;
  for (const int64_t load : stats.load)
    shares.push_back(total > 0 ? static_cast<double>(load) / total : 0);
  return shares;
}

LayerHealth health_of(const models::RoutingStats& stats, const config::Moe& moe) {
  LayerHealth health;
  for (const models::RouterLossKind& kind : models::router_loss_kinds()) {
    if (kind.is_always_reported || kind.coefficient(moe) > 0)
      health.losses.emplace_back(kind.loss, stats.losses[kind.loss]);
  }
  const auto ratio = [](double part, double whole) { return whole > 0 ? part / whole : 0.0; };
  health.drop_share = ratio(static_cast<double>(stats.dropped), static_cast<double>(stats.slots));
  health.reject_share =
      ratio(static_cast<double>(stats.rejected), static_cast<double>(stats.rejected + stats.slots));
  health.router_entropy = ratio(stats.router_entropy, static_cast<double>(stats.tokens));
  const auto experts = static_cast<double>(stats.load.size());
  double variance = 0;  // of the shares, in units of the mean share
  for (const double share : expert_shares(stats)) {
    variance += (share * experts - 1) * (share * experts - 1) / experts;
    health.load_max_mean = std::max(health.load_max_mean, share * experts);
    if (share > 0)
      health.load_entropy -= share * std::log(share) / std::log(std::max(2.0, experts));
  }
  health.load_cv = health.load_max_mean > 0 ? std::sqrt(variance) : 0;
  return health;
}

LayerHealth summary_of(const std::vector<LayerHealth>& layers) {
  LayerHealth sum;
  const auto count = static_cast<double>(std::max<size_t>(1, layers.size()));
  for (const LayerHealth& layer : layers) {
    sum.losses.resize(layer.losses.size());  // the same of every router
    for (size_t i = 0; i < layer.losses.size(); ++i) {
      sum.losses[i].first = layer.losses[i].first;
      sum.losses[i].second += layer.losses[i].second / count;
    }
    sum.reject_share += layer.reject_share / count;
    sum.drop_share += layer.drop_share / count;
    sum.load_cv += layer.load_cv / count;
    sum.load_entropy += layer.load_entropy / count;
    sum.router_entropy += layer.router_entropy / count;
    sum.load_max_mean = std::max(sum.load_max_mean, layer.load_max_mean);
    sum.dead_experts += layer.dead_experts;
  }
  return sum;
}

std::string loss_suffix(const config::Data& data) {
  return data.attend_across_documents() ? "_across_documents" : "";
}

std::string metric_name(const std::string& sum, const std::string& suffix) {
  return sum == "mtp" ? sum + suffix : sum;  // the only one that is a loss on text
}

std::string console_line(const StepRecord& r) {
  const bool has_experts = !r.layers.empty();
  const LayerHealth moe = summary_of(r.layers);
  std::string line = fmt::format("step: {:>6}/{}  loss: {:>7.4f}", r.step, r.num_steps, r.loss);
  if (r.spike) line += fmt::format("  spike: {:.1f} sigma", *r.spike);
  for (const auto& [name, sum] : r.sums) line += fmt::format("  {}: {:.4f}", name, sum.mean());
  for (const auto& [loss, value] : moe.losses) {
    const models::RouterLossKind& kind = models::kind_of(loss);
    if (kind.is_always_reported) line += fmt::format("  {}: {:.4f}", kind.metric, value);
  }
  line += fmt::format(
      "  grad_norm: {:>6.3f}  lr: {:.2e}  tokens: {}  tok/s: {}  mfu: {:.1f}%  mem: {:.1f}GiB",
      r.grad_norm, r.lr, format_count(static_cast<double>(r.tokens)),
      grouped(std::llrint(r.tokens_per_second)), 100 * r.mfu, r.memory_bytes / (1 << 30));
  if (has_experts)
    line += fmt::format(
        "  drop: {:.1f}%  load(max/mean): {:.2f}  entropy: {:.2f}  dead: {}  a2a: {:.1f}%",
        100 * moe.drop_share, moe.load_max_mean, moe.load_entropy, moe.dead_experts,
        100 * r.exchange_share);
  if (r.skipped_steps > 0) line += fmt::format("  skipped: {}", r.skipped_steps);
  return line + "  eta: " + format_duration(r.eta_seconds);
}

JsonLinesRecord metrics_of(const StepRecord& r) {
  JsonLinesRecord record{{"step", r.step},           {"loss" + r.loss_suffix, r.loss},
                         {"grad_norm", r.grad_norm}, {"lr", r.lr},
                         {"tokens", r.tokens},       {"skipped_steps", r.skipped_steps}};
  for (const auto& [name, sum] : r.sums)
    record.emplace_back(metric_name(name, r.loss_suffix), sum.mean());
  if (r.spike) record.emplace_back("spike", *r.spike);
  if (r.layers.empty()) return record;
  append_layer(record, "moe/", summary_of(r.layers));
  for (size_t i = 0; i < r.layers.size(); ++i)
    append_layer(record, fmt::format("moe/{}/", i), r.layers[i]);
  return record;
}

JsonLinesRecord timing_of(const StepRecord& r) {
  JsonLinesRecord record{{"step", r.step},
                         {"seconds_per_step", r.seconds},
                         {"tokens_per_second", r.tokens_per_second},
                         {"mfu", r.mfu},
                         {"memory_bytes", r.memory_bytes},
                         {"exchange_share", r.exchange_share}};
  for (const RankTime& time : r.rank_times) record.emplace_back("ranks/" + time.name, time.seconds);
  return record;
}

std::string format_duration(double seconds) {
  const auto total = static_cast<int64_t>(std::max(0.0, seconds) + 0.5);
  if (total >= 3600) return fmt::format("{}h{:02}m", total / 3600, total / 60 % 60);
  if (total >= 60) return fmt::format("{}m{:02}s", total / 60, total % 60);
  return fmt::format("{}s", total);
}

std::string format_count(double count) {
  const char* unit = "";
  for (const char* next : {"k", "M", "B", "T"}) {
    if (count < 1000) break;
    count /= 1000;
    unit = next;
  }
  return *unit ? fmt::format("{:.1f}{}", count, unit) : fmt::format("{:.0f}", count);
}

}  // namespace switchyard::trainer
