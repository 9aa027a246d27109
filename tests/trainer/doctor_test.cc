#include "trainer/machine/doctor.h"

#include <filesystem>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace switchyard::trainer {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr uint64_t kGiB = 1 << 30;

Machine good_machine() {
  Machine machine;
  machine.cores = 4;
  machine.cpu_flags = {"avx2", "avx512f", "avx512_bf16"};
  machine.memory = {16 * kGiB, 12 * kGiB, 0};
  machine.shared_memory_bytes = kGiB;
  machine.has_apt = true;
  machine.launch = {0, "", 0.4};
  machine.disk = {"runs", "", 100 * kGiB, 1 << 24, 0.1};
  return machine;
}

ComputeFacts good_compute() {
  return {"LibTorch 2.13.0", {{"float32", 1, 100}, {"float32", 4, 400}, {"bfloat16", 4, 800}}};
}

Check find(const std::vector<Check>& checks, const std::string& name) {
  for (const Check& check : checks) {
    if (check.name == name) return check;
  }
  ADD_FAILURE() << "no check " << name;
  return {};
}

Check judged(const Machine& machine, const std::string& name) {
  return find(judge(machine, good_compute()), name);
}

TEST(Doctor, FindsNothingToDoOnAGoodMachine) {
  const auto checks = judge(good_machine(), good_compute());
  EXPECT_EQ(overall(checks), Verdict::kOk) << render_text(checks);
  for (const Check& check : checks) EXPECT_EQ(check.advice, "") << check.name;
}

TEST(Doctor, SaysThreadsForEachNumberOfRanks) {
  EXPECT_EQ(judged(good_machine(), "threads").found,
            "4 cores; ranks x threads: 1 x 4, 2 x 2, 4 x 1");
}

TEST(Doctor, WarnsOfMoreOpenMpThreadsThanCores) {
  Machine machine = good_machine();
  machine.omp_num_threads = "4";
  EXPECT_EQ(judged(machine, "threads").verdict, Verdict::kOk);
  machine.omp_num_threads = "8";
  EXPECT_EQ(judged(machine, "threads").verdict, Verdict::kWarning);
  EXPECT_THAT(judged(machine, "threads").found, HasSubstr("OMP_NUM_THREADS=8"));
}

TEST(Doctor, TellsAMissingLauncherFromOneThatFailsOrHangs) {
  Machine machine = good_machine();
  machine.launch = {127, "sh: mpirun: not found", 0};
  EXPECT_THAT(judged(machine, "MPI launch").advice, HasSubstr("scripts/setup"));
  machine.launch = {1, "There are not enough slots\nmore", 0};
  EXPECT_THAT(judged(machine, "MPI launch").found,
              HasSubstr("status 1: There are not enough slots"));
  machine.launch = {124, "", 30};
  EXPECT_THAT(judged(machine, "MPI launch").found, HasSubstr("did not return"));
  EXPECT_EQ(judged(machine, "MPI launch").verdict, Verdict::kFailure);
}

TEST(Doctor, DoesNotTryALaunchInsideAJob) {
  Machine machine = good_machine();
  machine.is_inside_job = true;
  EXPECT_EQ(judged(machine, "MPI launch").verdict, Verdict::kWarning);
}

TEST(Doctor, AdvisesFloat32WhereBfloat16IsSlower) {
  ComputeFacts compute = good_compute();
  compute.rates.back().gflops = 50;
  EXPECT_THAT(find(judge(good_machine(), compute), "GEMM bfloat16").advice,
              HasSubstr("runtime.compute: FP32"));
}

TEST(Doctor, WarnsOfLittleMemoryDiskAndSharedMemory) {
  Machine machine = good_machine();
  machine.memory.available_bytes = kGiB;
  machine.shared_memory_bytes = 1 << 20;
  machine.disk.free_bytes = kGiB;
  for (const char* name : {"memory", "/dev/shm", "disk"}) {
    EXPECT_EQ(judged(machine, name).verdict, Verdict::kWarning) << name;
    EXPECT_NE(judged(machine, name).advice, "") << name;
  }
}

TEST(Doctor, FailsWhereTheOutputFolderCannotBeWritten) {
  Machine machine = good_machine();
  machine.disk = try_disk("/proc/nowhere");
  EXPECT_EQ(judged(machine, "disk").verdict, Verdict::kFailure);
  EXPECT_THAT(judged(machine, "disk").found, HasSubstr("/proc/nowhere"));
}

TEST(Doctor, RendersTextWithAdviceBelowTheFinding) {
  const std::vector<Check> checks = {{"memory", Verdict::kOk, "8 GiB", ""},
                                     {"disk", Verdict::kFailure, "read-only", "another folder"}};
  EXPECT_EQ(render_text(checks),
            "ok    memory         8 GiB\n"
            "fail  disk           read-only\n"
            "                     -> another folder\n"
            "1 ok, 0 to look at, 1 failed\n");
}

TEST(Doctor, RendersJsonForAnyBytes) {
  const auto report =
      nlohmann::json::parse(render_json({{"disk", Verdict::kWarning, "bad \xff byte", "look"}}));
  EXPECT_EQ(report["verdict"], "warn");
  EXPECT_EQ(report["checks"][0]["advice"], "look");
}

TEST(Machine, ReadsTheFirstProcessorsFlags) {
  EXPECT_THAT(parse_cpu_flags("processor : 0\nflags\t\t: fpu avx2\nbugs: x\nflags : other\n"),
              ElementsAre("fpu", "avx2"));
  EXPECT_THAT(parse_cpu_flags("processor : 0\nFeatures : asimd\n"), testing::IsEmpty());
}

TEST(Machine, TrialsReportStatusOutputAndTimeouts) {
  const Trial failed = try_command("echo \"it's\"; exit 3", 5);
  EXPECT_EQ(failed.status, 3);
  EXPECT_EQ(failed.output, "it's");
  EXPECT_EQ(try_command("sleep 30", 1).status, 124);
}

TEST(Machine, ADiskTrialLeavesNothingBehind) {
  const auto folder = std::filesystem::path(testing::TempDir()) / "doctor_disk_trial";
  const DiskTrial trial = try_disk(folder.string());
  EXPECT_EQ(trial.error, "");
  EXPECT_GT(trial.free_bytes, 0u);
  EXPECT_FALSE(std::filesystem::exists(folder));
}

TEST(Doctor, FindsThatThisMachineCanTrain) {
  const Machine machine = look_at_machine(testing::TempDir(), "mpirun");
  const auto checks = judge(machine, measure_compute(1));
  EXPECT_NE(find(checks, "MPI launch").verdict, Verdict::kFailure) << render_text(checks);
  EXPECT_THAT(find(checks, "GEMM float32").found, HasSubstr("GFLOP/s with 1 thread"));
}

}  // namespace
}  // namespace switchyard::trainer
