#pragma once
// Private to validation: what its files share.

#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "core/config/run_config.pb.h"

namespace switchyard::config {

// Collects what is wrong, one message per line.
struct Findings {
  std::vector<std::string> lines;

  template <typename... Args>
  void add(fmt::format_string<Args...> format, Args&&... args) {
    lines.push_back(fmt::format(format, std::forward<Args>(args)...));
  }
};

// Every rule but those of schedules, for fields as they stand; num_ranks as in broken_rules().
void check_values(const RunConfig& config, int num_ranks, Findings& findings);  // validate.cc

void check_ranges(const RunConfig& config, Findings& findings);     // validate_ranges.cc
void check_model(const Model& model, Findings& findings);           // validate_model.cc
void check_attention(const Model& model, Findings& findings);       // validate_attention.cc
void check_routing(const Moe& moe, Findings& findings);             // validate_routing.cc
void check_data(const RunConfig& config, Findings& findings);       // validate_data.cc
void check_sizes(const RunConfig& config, Findings& findings);      // validate_model.cc
void check_schedules(const RunConfig& config, Findings& findings);  // validate_schedule.cc
void need_schedules(const RunConfig& config, Findings& findings);   // validate_schedule.cc

}  // namespace switchyard::config
