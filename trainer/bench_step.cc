#include "trainer/bench_step.h"

#include <algorithm>
#include <chrono>

#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "core/base/seconds.h"
#include "core/config/mesh_shape.h"
#include "models/inspect/cost.h"
#include "models/inspect/memory.h"
#include "models/inspect/traffic.h"
#include "parallel/agreement.h"
#include "trainer/log/speedometer.h"
#include "trainer/log/step_profile.h"
#include "trainer/machine/peak_rate.h"
#include "trainer/training.h"

namespace switchyard::trainer {
namespace {

constexpr int kWarmup = 3;

double run_one(Training& training) {
  const auto start = std::chrono::steady_clock::now();
  training.update(training.compute());
  return seconds_since(start);
}

std::map<std::string, double> profile(Training& training, int steps) {
  const StepProfile profile;
  double total = 0;
  for (int i = 0; i < steps; ++i) total += run_one(training);
  std::map<std::string, double> shares;
  double named = 0;
  for (const auto& [part, seconds] : profile.seconds()) {
    shares[part] = seconds / total;
    named += seconds / total;
  }
  shares["other"] = 1 - named;
  return shares;
}

// Bytes that this rank has sent so far, by axis.
std::map<Axis, double> bytes_sent(const parallel::Mesh& mesh) {
  std::map<Axis, double> bytes;
  for (const Axis axis : kAllAxes) bytes[axis] = static_cast<double>(mesh.bytes_sent(axis));
  return bytes;
}

}  // namespace

StepBench bench_step(config::RunConfig config, parallel::Communicator& world, int steps) {
  config = parallel::make_on_all(world, "open token files", [&] { return with_tokenizer(config); });
  config.mutable_train()->set_steps(1'000'000);
  config.clear_schedule();  // every measured step is as the first
  StepBench bench;
  bench.ranks = world.size();
  bench.threads_per_rank = at::get_num_threads();
  bench.steps = steps;
  const double memory_before = peak_memory_bytes();
  {
    Training training(config, open_training_data(config, world), world);
    fill_first_weights(config, training.instance.parameters);
    training.begin();
    for (int i = 0; i < kWarmup; ++i) run_one(training);
    const parallel::Mesh& mesh = training.instance.mesh;
    const std::map<Axis, double> before = bytes_sent(mesh);
    std::vector<double> seconds;
    for (int i = 0; i < steps; ++i) seconds.push_back(run_one(training));
    for (const auto& [axis, bytes] : bytes_sent(mesh)) {
      if (mesh.along(axis).size() > 1)
        bench.traffic[words_of(axis).name].bytes = (bytes - before.at(axis)) / steps;
    }
    for (const models::TrafficTerm& term : models::traffic_per_step(config, mesh.shape()))
      bench.traffic[words_of(term.axis).name].formula_bytes += term.bytes;
    std::ranges::sort(seconds);
    bench.memory_bytes = peak_memory_bytes() - memory_before;
    bench.parts = profile(training, std::max(1, steps / 2));
    const double tokens =
        static_cast<double>(config.train().global_batch()) * config.data().sequence_length();
    bench.tokens_per_second = tokens / seconds[seconds.size() / 2];
    bench.fastest = tokens / seconds.front();
    bench.slowest = tokens / seconds.back();
  }
  const double rate = bench.tokens_per_second *
                      models::flops_per_token(config.model(), models::sequence_lengths(config));
  bench.machine_flops = std::max(rate, peak_rate(models::compute_type(config), world));
  bench.mfu = rate / bench.machine_flops;
  bench.memory_formula_bytes =
      models::memory_plan(config, config::mesh_shape(config.mesh(), config.model(), world.size()))
          .total();
  return bench;
}

std::string render(const StepBench& b, bool json) {
  if (json) {
    auto traffic = nlohmann::ordered_json::object();
    for (const auto& [axis, sent] : b.traffic)
      traffic[axis] = {{"bytes", sent.bytes}, {"formula_bytes", sent.formula_bytes}};
    return nlohmann::ordered_json{{"ranks", b.ranks},
                                  {"threads_per_rank", b.threads_per_rank},
                                  {"steps", b.steps},
                                  {"tokens_per_second", b.tokens_per_second},
                                  {"slowest", b.slowest},
                                  {"fastest", b.fastest},
                                  {"machine_flops", b.machine_flops},
                                  {"mfu", b.mfu},
                                  {"parts", b.parts},
                                  {"traffic", traffic},
                                  {"memory_bytes", b.memory_bytes},
                                  {"memory_formula_bytes", b.memory_formula_bytes}}
               .dump(2) +
           "\n";
  }
  std::string text = fmt::format(
      "{} rank(s) x {} thread(s), {} steps\n"
      "tokens/s        {:.0f}  (steps from {:.0f} to {:.0f})\n"
      "matrix products {:.1f} GFLOP/s measured; the step reaches {:.2f} of it (model FLOPs)\n"
      "memory          {:.0f} MiB peak growth, {:.2f} of the formulas' {:.0f} MiB\n",
      b.ranks, b.threads_per_rank, b.steps, b.tokens_per_second, b.slowest, b.fastest,
      b.machine_flops * 1e-9, b.mfu, b.memory_bytes / (1 << 20),
      b.memory_bytes / b.memory_formula_bytes, b.memory_formula_bytes / (1 << 20));
  for (const auto& [axis, sent] : b.traffic)
    text += fmt::format("sent            {:.2f} MiB a step over {}, {:.2f} of the formulas'\n",
                        sent.bytes / (1 << 20), axis, sent.bytes / sent.formula_bytes);
  std::vector<std::pair<double, std::string>> parts;
  for (const auto& [part, share] : b.parts) parts.emplace_back(share, part);
  std::ranges::sort(parts, std::greater());
  for (const auto& [share, part] : parts)
    text += fmt::format("  {:<18} {:5.1f}%\n", part, 100 * share);
  return text;
}

}  // namespace switchyard::trainer
