#include "trainer/machine/doctor.h"

#include <algorithm>
#include <cstdlib>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

namespace switchyard::trainer {
namespace {

constexpr double kGiB = 1 << 30, kMiB = 1 << 20;
constexpr double kLittleMemory = 2 * kGiB, kLittleDisk = 5 * kGiB, kLittleShared = 64 * kMiB;
constexpr double kSlowDisk = 20 * kMiB;  // per second: a checkpoint of 100 MiB takes 5 s

// A check that is a warning, with the advice, if `is_bad`, and fine else.
Check warn_if(bool is_bad, std::string name, std::string found, std::string advice) {
  if (!is_bad) return {std::move(name), Verdict::kOk, std::move(found)};
  return {std::move(name), Verdict::kWarning, std::move(found), std::move(advice)};
}

Check check_launch(const Machine& machine) {
  const std::string name = "MPI launch";
  const Trial& launch = machine.launch;
  if (machine.is_inside_job)
    return {name, Verdict::kWarning, "not tried: this process was started by mpirun or srun",
            "run `switchyard doctor` by itself"};
  if (launch.status == 0)
    return {name, Verdict::kOk, fmt::format("mpirun -np 2 works, {:.1f} s", launch.seconds)};
  return {name, Verdict::kFailure,
          launch.status == 124 ? "mpirun -np 2 did not return"
                               : fmt::format("mpirun -np 2 ended with status {}: {}", launch.status,
                                             launch.output.substr(0, launch.output.find('\n'))),
          launch.status == 127 ? "install Open MPI: scripts/setup"
                               : "one rank works without mpirun; for more, run `mpirun -np 2 true` "
                                 "until it succeeds"};
}

Check check_threads(const Machine& machine) {
  std::vector<std::string> plans;
  for (int ranks = 1; ranks <= machine.cores; ranks *= 2)
    plans.push_back(fmt::format("{} x {}", ranks, machine.cores / ranks));
  const std::string& asked = machine.omp_num_threads;
  return warn_if(
      std::atoi(asked.c_str()) > machine.cores, "threads",
      fmt::format("{} cores; ranks x threads: {}{}", machine.cores, fmt::join(plans, ", "),
                  asked.empty() ? "" : "; OMP_NUM_THREADS=" + asked),
      "unset OMP_NUM_THREADS: threads that share a core wait for each other");
}

Check check_cpu(const Machine& machine) {
  std::vector<std::string> known;
  for (const char* flag : {"avx2", "avx512f", "avx512_bf16", "amx_bf16"})
    if (std::ranges::find(machine.cpu_flags, flag) != machine.cpu_flags.end())
      known.push_back(flag);
  return warn_if(
      known.empty() || !known.back().ends_with("bf16"), "CPU",
      known.empty() ? "no vector instructions beyond the base"
                    : fmt::format("{}", fmt::join(known, " ")),
      "no bfloat16 instructions: set runtime.compute: FP32 if bfloat16 is the slower below");
}

// The best of a type over its numbers of threads.
double rate_of(const ComputeFacts& compute, const std::string& type) {
  double best = 0;
  for (const GemmRate& rate : compute.rates)
    if (rate.type == type) best = std::max(best, rate.gflops);
  return best;
}

Check check_gemm(const ComputeFacts& compute, const std::string& type) {
  std::vector<std::string> rates;
  for (const GemmRate& rate : compute.rates)
    if (rate.type == type)
      rates.push_back(fmt::format("{:.0f} GFLOP/s with {} thread{}", rate.gflops, rate.threads,
                                  rate.threads == 1 ? "" : "s"));
  return warn_if(type == "bfloat16" && rate_of(compute, type) < rate_of(compute, "float32"),
                 "GEMM " + type, fmt::format("{}", fmt::join(rates, ", ")),
                 "bfloat16 is slower than float32 here: set runtime.compute: FP32");
}

Check check_memory(const Memory& memory) {
  const std::string limit = memory.limit_bytes > 0 ? fmt::format(", control group limit {:.1f} GiB",
                                                                 memory.limit_bytes / kGiB)
                                                   : "";
  return warn_if(memory.available_bytes < kLittleMemory, "memory",
                 fmt::format("{:.1f} GiB available of {:.1f} GiB{}", memory.available_bytes / kGiB,
                             memory.total_bytes / kGiB, limit),
                 "train fewer ranks or a smaller model, or raise the limit");
}

Check check_shared_memory(const Machine& machine) {
  return warn_if(machine.shared_memory_bytes < kLittleShared, "/dev/shm",
                 fmt::format("{:.0f} MiB free", machine.shared_memory_bytes / kMiB),
                 "ranks of one machine talk through it; in a container, raise it: --shm-size=1g");
}

Check check_disk(const DiskTrial& disk) {
  if (!disk.error.empty())
    return {"disk", Verdict::kFailure, disk.error, "choose another output_dir"};
  const double speed = disk.written_bytes / std::max(disk.seconds, 1e-6);
  return warn_if(disk.free_bytes < kLittleDisk || speed < kSlowDisk, "disk",
                 fmt::format("{}: {:.1f} GiB free, {:.0f} MiB/s written and synced", disk.folder,
                             disk.free_bytes / kGiB, speed / kMiB),
                 "checkpoints go there: set checkpoint.keep and checkpoint.every to what fits, or "
                 "another output_dir");
}

Check check_corpus(const Machine& machine) {
  return warn_if(!machine.has_apt, "corpus",
                 machine.has_apt ? "apt is here" : "no apt on this machine",
                 "scripts/quickstart needs your own text here: --text PATH...");
}

const char* name_of(Verdict verdict) {
  constexpr const char* kNames[] = {"ok", "warn", "fail"};  // in the order of Verdict
  return kNames[static_cast<int>(verdict)];
}

}  // namespace

std::vector<Check> judge(const Machine& machine, const ComputeFacts& compute) {
  return {check_launch(machine),
          check_threads(machine),
          check_cpu(machine),
          {.name = "LibTorch", .found = compute.libtorch},
          check_gemm(compute, "float32"),
          check_gemm(compute, "bfloat16"),
          check_memory(machine.memory),
          check_shared_memory(machine),
          check_disk(machine.disk),
          check_corpus(machine),
          {.name = "CUDA",
           .found = std::string("not in this build, which has the CPU backend only") +
                    (machine.has_nvidia_device ? "; the NVIDIA device of this machine stays idle"
                                               : "")}};
}

std::vector<Check> run_doctor(const std::string& output_folder) {
  const Machine machine = look_at_machine(output_folder, "mpirun");
  return judge(machine, measure_compute(machine.cores));
}

Verdict overall(const std::vector<Check>& checks) {
  return std::ranges::max_element(checks, {}, &Check::verdict)->verdict;
}

std::string render_text(const std::vector<Check>& checks) {
  std::string text;
  for (const Check& check : checks) {
    text += fmt::format("{:<5} {:<14} {}\n", name_of(check.verdict), check.name, check.found);
    if (!check.advice.empty()) text += fmt::format("{:<20} -> {}\n", "", check.advice);
  }
  const auto count = [&](Verdict verdict) {
    return std::ranges::count(checks, verdict, &Check::verdict);
  };
  return text + fmt::format("{} ok, {} to look at, {} failed\n", count(Verdict::kOk),
                            count(Verdict::kWarning), count(Verdict::kFailure));
}

std::string render_json(const std::vector<Check>& checks) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const Check& check : checks)
    list.push_back({{"name", check.name},
                    {"verdict", name_of(check.verdict)},
                    {"found", check.found},
                    {"advice", check.advice}});
  const nlohmann::ordered_json report = {{"verdict", name_of(overall(checks))}, {"checks", list}};
  // A message of the system may hold bytes that are not UTF-8.
  return report.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace switchyard::trainer
