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

Check check_launch(const Machine& machine) {
  Check check{.name = "MPI launch"};
  const Trial& launch = machine.launch;
  if (machine.is_inside_job) {
    check.verdict = Verdict::kWarning;
    check.found = "not tried: this process was started by mpirun or srun";
    check.advice = "run `switchyard doctor` by itself";
  } else if (launch.status == 0) {
    check.found = fmt::format("mpirun -np 2 works, {:.1f} s", launch.seconds);
  } else {
    check.verdict = Verdict::kFailure;
    check.found = launch.status == 124
                      ? "mpirun -np 2 did not return"
                      : fmt::format("mpirun -np 2 ended with status {}: {}", launch.status,
                                    launch.output.substr(0, launch.output.find('\n')));
    check.advice = launch.status == 127 ? "install Open MPI: scripts/setup"
                                        : "one rank works without mpirun; for more, run `mpirun "
                                          "-np 2 true` until it succeeds";
  }
  return check;
}

Check check_threads(const Machine& machine) {
  Check check{.name = "threads"};
  std::vector<std::string> plans;
  for (int ranks = 1; ranks <= machine.cores; ranks *= 2) {
    plans.push_back(fmt::format("{} x {}", ranks, std::max(1, machine.cores / ranks)));
  }
  check.found = fmt::format("{} cores; ranks x threads: {}", machine.cores, fmt::join(plans, ", "));
  const int asked = std::atoi(machine.omp_num_threads.c_str());
  if (!machine.omp_num_threads.empty()) {
    check.found += fmt::format("; OMP_NUM_THREADS={}", machine.omp_num_threads);
  }
  if (asked > machine.cores) {
    check.verdict = Verdict::kWarning;
    check.advice = "unset OMP_NUM_THREADS: threads that share a core wait for each other";
  }
  return check;
}

bool has_flag(const Machine& machine, const char* flag) {
  return std::find(machine.cpu_flags.begin(), machine.cpu_flags.end(), flag) !=
         machine.cpu_flags.end();
}

Check check_cpu(const Machine& machine) {
  Check check{.name = "CPU"};
  std::vector<std::string> known;
  for (const char* flag : {"avx2", "avx512f", "avx512_bf16", "amx_bf16"}) {
    if (has_flag(machine, flag)) known.push_back(flag);
  }
  check.found = known.empty() ? "no vector instructions beyond the base"
                              : fmt::format("{}", fmt::join(known, " "));
  if (!has_flag(machine, "avx512_bf16") && !has_flag(machine, "amx_bf16")) {
    check.verdict = Verdict::kWarning;
    check.advice =
        "no bfloat16 instructions: set runtime.compute: FP32 if bfloat16 is the slower below";
  }
  return check;
}

double rate_of(const ComputeFacts& compute, const std::string& type) {
  double best = 0;
  for (const GemmRate& rate : compute.rates) {
    if (rate.type == type) best = std::max(best, rate.gflops);
  }
  return best;
}

Check check_gemm(const ComputeFacts& compute, const std::string& type) {
  Check check{.name = "GEMM " + type};
  std::vector<std::string> rates;
  for (const GemmRate& rate : compute.rates) {
    if (rate.type != type) continue;
    rates.push_back(fmt::format("{:.0f} GFLOP/s with {} thread{}", rate.gflops, rate.threads,
                                rate.threads == 1 ? "" : "s"));
  }
  check.found = fmt::format("{}", fmt::join(rates, ", "));
  if (type == "bfloat16" && rate_of(compute, type) < rate_of(compute, "float32")) {
    check.verdict = Verdict::kWarning;
    check.advice = "bfloat16 is slower than float32 here: set runtime.compute: FP32";
  }
  return check;
}

Check check_memory(const Machine& machine) {
  const Memory& memory = machine.memory;
  Check check{.name = "memory"};
  check.found = fmt::format("{:.1f} GiB available of {:.1f} GiB", memory.available_bytes / kGiB,
                            memory.total_bytes / kGiB);
  if (memory.limit_bytes > 0) {
    check.found += fmt::format(", control group limit {:.1f} GiB", memory.limit_bytes / kGiB);
  }
  if (memory.available_bytes < kLittleMemory) {
    check.verdict = Verdict::kWarning;
    check.advice = "train fewer ranks or a smaller model, or raise the limit";
  }
  return check;
}

Check check_shared_memory(const Machine& machine) {
  Check check{.name = "/dev/shm"};
  check.found = fmt::format("{:.0f} MiB free", machine.shared_memory_bytes / kMiB);
  if (machine.shared_memory_bytes < kLittleShared) {
    check.verdict = Verdict::kWarning;
    check.advice = "ranks of one machine talk through it; in a container, raise it: --shm-size=1g";
  }
  return check;
}

Check check_disk(const Machine& machine) {
  const DiskTrial& disk = machine.disk;
  Check check{.name = "disk"};
  if (!disk.error.empty()) {
    check.verdict = Verdict::kFailure;
    check.found = disk.error;
    check.advice = "choose another output_dir";
    return check;
  }
  const double speed = disk.written_bytes / std::max(disk.seconds, 1e-6);
  check.found = fmt::format("{}: {:.1f} GiB free, {:.0f} MiB/s written and synced", disk.folder,
                            disk.free_bytes / kGiB, speed / kMiB);
  if (disk.free_bytes < kLittleDisk || speed < kSlowDisk) {
    check.verdict = Verdict::kWarning;
    check.advice =
        "checkpoints go there: set checkpoint.keep and checkpoint.every to what fits, or another "
        "output_dir";
  }
  return check;
}

Check check_corpus(const Machine& machine) {
  Check check{.name = "corpus"};
  check.found = machine.has_apt ? "apt is here" : "no apt on this machine";
  if (!machine.has_apt) {
    check.verdict = Verdict::kWarning;
    check.advice = "scripts/quickstart needs your own text here: --text PATH...";
  }
  return check;
}

Check check_cuda(const Machine& machine) {
  Check check{.name = "CUDA"};
  check.found = "not in this build, which has the CPU backend only";
  if (machine.has_nvidia_device) check.found += "; the NVIDIA device of this machine stays idle";
  return check;
}

const char* name_of(Verdict verdict) {
  switch (verdict) {
    case Verdict::kOk:
      return "ok";
    case Verdict::kWarning:
      return "warn";
    case Verdict::kFailure:
      return "fail";
  }
  return "?";
}

}  // namespace

std::vector<Check> judge(const Machine& machine, const ComputeFacts& compute) {
  return {check_launch(machine),
          check_threads(machine),
          check_cpu(machine),
          {.name = "LibTorch", .found = compute.libtorch},
          check_gemm(compute, "float32"),
          check_gemm(compute, "bfloat16"),
          check_memory(machine),
          check_shared_memory(machine),
          check_disk(machine),
          check_corpus(machine),
          check_cuda(machine)};
}

std::vector<Check> run_doctor(const std::string& output_folder) {
  const Machine machine = look_at_machine(output_folder, "mpirun");
  return judge(machine, measure_compute(machine.cores));
}

Verdict overall(const std::vector<Check>& checks) {
  Verdict worst = Verdict::kOk;
  for (const Check& check : checks) worst = std::max(worst, check.verdict);
  return worst;
}

std::string render_text(const std::vector<Check>& checks) {
  std::string text;
  for (const Check& check : checks) {
    text += fmt::format("{:<5} {:<14} {}\n", name_of(check.verdict), check.name, check.found);
    if (!check.advice.empty()) text += fmt::format("{:<20} -> {}\n", "", check.advice);
  }
  const auto count = [&](Verdict verdict) {
    return std::count_if(checks.begin(), checks.end(),
                         [&](const Check& check) { return check.verdict == verdict; });
  };
  return text + fmt::format("{} ok, {} to look at, {} failed\n", count(Verdict::kOk),
                            count(Verdict::kWarning), count(Verdict::kFailure));
}

std::string render_json(const std::vector<Check>& checks) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const Check& check : checks) {
    list.push_back({{"name", check.name},
                    {"verdict", name_of(check.verdict)},
                    {"found", check.found},
                    {"advice", check.advice}});
  }
  const nlohmann::ordered_json report = {{"verdict", name_of(overall(checks))}, {"checks", list}};
  // A message of the system may hold bytes that are not UTF-8.
  return report.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace switchyard::trainer
