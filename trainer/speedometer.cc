#include "trainer/speedometer.h"

#include <sys/resource.h>

#include <algorithm>

#include "core/base/seconds.h"
#include "core/tensor/aten.h"
#include "core/tensor/gemm.h"
#include "models/cost.h"
#include "trainer/model_instance.h"

namespace switchyard::trainer {
namespace {

using Clock = std::chrono::steady_clock;

}  // namespace

double measured_matmul_rate(const config::RunConfig& config) {
  constexpr int64_t kM = 512, kK = 512, kN = 1024;
  const at::Tensor a = at::ones({kM, kK}, models::compute_type(config)),
                   b = at::ones({kK, kN}, models::compute_type(config));
  at::Tensor out = at::empty({kM, kN}, models::compute_type(config));
  double best = 0;
  for (int round = 0; round < 8; ++round) {
    const auto start = Clock::now();
    matmul(a, b, out);
    best = std::max(best, 2.0 * kM * kK * kN / seconds_since(start));
  }
  return best;
}

double peak_memory_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) * 1024;
}

Speedometer::Speedometer(const config::RunConfig& config, const parallel::Mesh& mesh)
    : mesh_(&mesh),
      tokens_per_step_(static_cast<double>(config.train().global_batch()) *
                       config.data().sequence_length()),
      flops_per_token_(models::flops_per_token(config.model(), models::sequence_lengths(config))),
      machine_rate_(mesh.world().all_reduce(measured_matmul_rate(config), parallel::ReduceOp::kSum,
                                            "matmul rate")) {
  restart();
}

void Speedometer::restart() {
  start_ = Clock::now();
  exchange_seconds_at_start_ = mesh_->expert().traffic().exchange_seconds;
  steps_ = 0;
}

double Speedometer::seconds_per_step() const {
  return steps_ > 0 ? seconds_since(start_) / static_cast<double>(steps_) : 0;
}

double Speedometer::eta_seconds(int64_t steps_left) const {
  return seconds_per_step() * static_cast<double>(steps_left);
}

void Speedometer::fill(StepRecord& record) const {
  const double elapsed = seconds_since(start_);
  record.seconds = seconds_per_step();
  record.tokens_per_second = record.seconds > 0 ? tokens_per_step_ / record.seconds : 0;
  record.mfu = record.tokens_per_second * flops_per_token_ / machine_rate_;
  record.memory_bytes = peak_memory_bytes();
  const double exchange = mesh_->expert().traffic().exchange_seconds - exchange_seconds_at_start_;
  record.exchange_share = elapsed > 0 ? exchange / elapsed : 0;
  record.eta_seconds = eta_seconds(record.num_steps - record.step);
}

}  // namespace switchyard::trainer
