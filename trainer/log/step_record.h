#pragma once
// What one logged step reports: the same numbers on the console, as JSON lines and for TensorBoard.

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/config/run_config.pb.h"
#include "core/io/json_lines.h"
#include "models/pass/context.h"
#include "models/pass/stats.h"

namespace switchyard::trainer {

// How one router routes, over all ranks.
struct LayerHealth {
  // Values without their coefficients, in the order of the table of losses: those that are always
  // reported, and those that are on.
  std::vector<std::pair<models::RouterLoss, double>> losses;
  double reject_share = 0;    // later choices not let ask for a place, of all choices
  double drop_share = 0;      // dropped of the admitted slots
  double load_max_mean = 0;   // busiest expert's slots over the mean
  double load_cv = 0;         // standard deviation of the experts' slots over their mean
  double load_entropy = 0;    // of the experts' shares, over ln(num_experts): 1 is even
  double router_entropy = 0;  // mean over tokens, nats: how undecided the router is
  int64_t dead_experts = 0;   // without a token for log.dead_after_steps steps
  // Each expert's share of all slots; empty where the record is not to have it.
  std::vector<double> expert_load;
};

// Requires: `stats` are sums over the step and all ranks, and `moe` has the coefficients in force.
LayerHealth health_of(const models::RoutingStats& stats, const config::Moe& moe);

// Share of a router's slots that each expert got; zeros without slots.
std::vector<double> expert_shares(const models::RoutingStats& stats);

// What one of the phases of a step took, mean over the steps since the last record.
struct RankTime {
  std::string name;             // "forward/work", "forward/wait", ...
  std::vector<double> seconds;  // by rank
};

struct StepRecord {
  // These fields are alike in every run of the same config and layout.
  int64_t step = 0, num_steps = 0;
  double loss = 0;          // language-model loss alone, mean over the step's targets
  std::string loss_suffix;  // see loss_suffix()
  double grad_norm = 0;
  double lr = 0;
  int64_t tokens = 0;  // trained on so far
  int64_t skipped_steps = 0;
  std::vector<LayerHealth> layers;  // one per router; empty for a dense model
  // What the model reports of the step, over all ranks. Losses are without their coefficients.
  parallel::NamedSums sums;
  std::optional<double> spike;  // the loss above the steps before, in their standard deviations

  // These fields depend on this process and this machine.
  double seconds = 0;  // of the step, mean since the last record
  double tokens_per_second = 0;
  double mfu = 0;             // model FLOP/s over peak_rate(), at most 1
  double memory_bytes = 0;    // peak resident set, this rank
  double exchange_share = 0;  // of the time, spent in token exchange, waiting included
  double eta_seconds = 0;
  std::vector<RankTime> rank_times;
};

// All routers as one: the means of their values, but the largest of the load ratios and the number
// of all dead experts.
LayerHealth summary_of(const std::vector<LayerHealth>& layers);

// What the names of losses end with in the metrics: nothing, but with data.attend_across_documents
// "_across_documents", as a loss with the text before a document in sight is another quantity.
std::string loss_suffix(const config::Data& data);
// The name in the metrics of one of a model's named sums. suffix: loss_suffix().
std::string metric_name(const std::string& sum, const std::string& suffix);

// "step:    120/5000  loss:  3.2145  ..."; fields without experts are left out for a dense model.
std::string console_line(const StepRecord& record);

// The reproducible values of the record, so that a resumed run's file equals an uninterrupted run's
// byte for byte.
JsonLinesRecord metrics_of(const StepRecord& record);
// The values of the record that depend on the machine and its load.
JsonLinesRecord timing_of(const StepRecord& record);

std::string format_duration(double seconds);  // "1h12m", "3m05s", "42s"
std::string format_count(double count);       // "31.5M", "8.2k"

}  // namespace switchyard::trainer
