#include "trainer/log/speedometer.h"

#include <sys/resource.h>

#include <algorithm>

#include "core/base/seconds.h"
#include "models/inspect/cost.h"
#include "models/model.h"
#include "trainer/machine/peak_rate.h"

namespace switchyard::trainer {
double peak_memory_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) * 1024;
}

Speedometer::Speedometer(const config::RunConfig& config, const parallel::Mesh& mesh)
    : mesh_(&mesh),
      flops_per_token_(models::flops_per_token(config.model(), models::sequence_lengths(config))),
      peak_(peak_rate(models::compute_type(config), mesh.control())) {
  restart();
}

void Speedometer::restart() {
  start_ = std::chrono::steady_clock::now();
  exchange_seconds_at_start_ = mesh_->expert().traffic().exchange_seconds;
  steps_ = tokens_ = 0;
}

double Speedometer::eta_seconds() const {
  return tokens_ > 0 ? seconds_since(start_) * static_cast<double>(tokens_left_) /
                           static_cast<double>(tokens_)
                     : 0;
}

void Speedometer::fill(StepRecord& record) const {
  const double elapsed = seconds_since(start_);
  record.seconds = steps_ > 0 ? elapsed / static_cast<double>(steps_) : 0;
  record.tokens_per_second = elapsed > 0 ? static_cast<double>(tokens_) / elapsed : 0;
  const double rate = record.tokens_per_second * flops_per_token_;
  record.mfu = rate / std::max(peak_, rate);  // a peak below what was reached was measured wrong
  record.memory_bytes = peak_memory_bytes();
  const double exchange = mesh_->expert().traffic().exchange_seconds - exchange_seconds_at_start_;
  record.exchange_share = elapsed > 0 ? exchange / elapsed : 0;
  record.eta_seconds = eta_seconds();
}

}  // namespace switchyard::trainer
