// Faults of the processes of a run and of the storage under it: each ends with one clear message
// and the right code, or does not end the run.

#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <filesystem>

#include <fmt/format.h>

#include "tests/trainer/run_fixture.h"

namespace switchyard::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr int kPreempted = 75;
const std::string kEndless = "train.steps=100000";

struct Faults : RunTest {
  // A terminal with a run of one rank on it. `prepare` is the shell's first command.
  pid_t train_on_terminal(const std::string& run, const std::string& prepare, int& terminal) {
    const std::string command = fmt::format(
        "{}; exec {}/switchyard train {} --set output_dir={} --set name={} --set {} "
        "--set runtime.threads=1",
        prepare, std::getenv("SY_TEST_BUILD"), project("configs/debug.textproto"), file(""), run,
        kEndless);
    const pid_t process = ::forkpty(&terminal, nullptr, nullptr, nullptr);
    if (process == 0) {
      ::execl("/bin/sh", "sh", "-c", command.c_str(), nullptr);
      ::_exit(127);
    }
    ::fcntl(terminal, F_SETFL, O_NONBLOCK);
    return process;
  }

  // Reads what comes on the terminal, if it is open, until the run is there. False if it ends.
  bool reach(const std::string& run, int step, pid_t process, int terminal) {
    std::array<char, 4096> ignored;
    while (!has_step(run, step)) {
      if (::waitpid(process, nullptr, WNOHANG | __WALL) != 0) return false;
      while (terminal >= 0 && ::read(terminal, ignored.data(), ignored.size()) > 0) {
      }
      ::usleep(1000);
    }
    return true;
  }

  static int exit_code(pid_t process) {
    int status = 0;
    ::waitpid(process, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

  // Trains on two ranks, each in a folder of its own, where relative paths lead.
  TrainCall in_own_folders(const std::string& run) const {
    return {.run = run,
            .ranks = 2,
            .set = {"train.steps=2", "optimizer.warmup_steps=1"},
            .shell = fmt::format("cd {}$OMPI_COMM_WORLD_RANK || exit", file("rank"))};
  }
};

TEST_F(Faults, AClosedTerminalSavesTheRun) {
  int terminal = -1;
  const pid_t process = train_on_terminal("run", ":", terminal);
  ASSERT_TRUE(reach("run", 2, process, terminal));
  ::close(terminal);
  ::kill(process, SIGHUP);  // once more: the shell on the terminal sends it too
  EXPECT_EQ(exit_code(process), kPreempted);
  EXPECT_THAT(read_file(file("run/log.txt")), HasSubstr("and saved; run again to go on"));
}

TEST_F(Faults, AClosedTerminalLeavesARunUnderNohupAlone) {
  int terminal = -1;
  const pid_t process = train_on_terminal("run", "trap '' HUP", terminal);
  ASSERT_TRUE(reach("run", 2, process, terminal));
  ::close(terminal);
  const int seen = static_cast<int>(metrics("run").size());
  ASSERT_TRUE(reach("run", seen + 5, process, -1));
  ::kill(process, SIGTERM);
  EXPECT_EQ(exit_code(process), kPreempted);
  EXPECT_THAT(read_file(file("run/log.txt")),
              AllOf(HasSubstr(fmt::format("step: {:6}/", seen + 5)), HasSubstr("and saved")));
}

TEST_F(Faults, ClosedOutputsDoNotLandInTheRunsFiles) {
  EXPECT_THAT(train({.run = "run", .set = {"train.steps=2"}, .shell = "exec >&- 2>&-"}),
              EndsWithCode(0, ""));
  EXPECT_THAT(read_file(file("run/run.lock")), AllOf(HasSubstr("process"), Not(HasSubstr("step"))));
  EXPECT_THAT(read_file(file("run/log.txt")), HasSubstr("saved: "));
}

TEST_F(Faults, WhatIsNoFileIsRefusedInItsPlace) {
  for (const char* name : {"metrics.jsonl", "timing.jsonl", "log.txt"}) {
    fs::create_directories(file("run"));
    const std::string path = file(fmt::format("run/{}", name));
    ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
    EXPECT_THAT(train({.run = "run"}), EndsWithCode(7, path + " is a pipe"));
    fs::remove_all(file("run"));
  }
}

TEST_F(Faults, ALimitOnFileSizesIsAnErrorOfStorage) {
  EXPECT_THAT(train({.run = "run", .set = {"train.steps=2"}, .shell = "ulimit -f 40"}),
              EndsWithCode(7, "File too large"));
}

TEST_F(Faults, ARunWhoseFolderIsMovedEnds) {
  for (const int ranks : {1, 2}) {
    const auto job = start_training({.run = "run", .ranks = ranks, .set = {kEndless}});
    ASSERT_TRUE(job->wait_until([&] { return has_step("run", 2); }));
    fs::rename(file("run"), file(fmt::format("moved{}", ranks)));
    EXPECT_THAT(job->finish(), EndsWithCode(7, "the run's folder was removed, moved or replaced"));
    EXPECT_FALSE(fs::exists(file("run")));
  }
}

TEST_F(Faults, AnErrorOnOneRankEndsTheJobWithItsMessage) {
  const std::string text = project("docs/formats.md");
  for (const int rank : {0, 1}) {
    const std::string folder = file(fmt::format("rank{}", rank));
    fs::create_directories(folder);
    ASSERT_THAT(call({"tokenize", text, "--tokenizer", folder + "/text.model", "--vocab-size",
                      rank == 0 ? "350" : "370", "--out", folder + "/text"}),
                EndsWithCode(0, "text"));
  }
  TrainCall call = in_own_folders("vocabulary");
  call.config = config_for("text");
  call.set.insert(call.set.end(), {"data.tokenizer=text.model", "model.vocab_size=360"});
  EXPECT_THAT(train(call), EndsWithCode(2, "[rank 0/2] error[2]: rank 1: model.vocab_size (360)"));

  call.set.back() = "model.vocab_size=370";
  EXPECT_THAT(train(call), EndsWithCode(3, "ranks see different training data"));

  call.extra = {"--resume", "."};
  write_file(file("rank0/COMMIT"), "");
  EXPECT_THAT(train(call), EndsWithCode(4, "[rank 1/2] error[4]: .: expected a checkpoint"));
}

TEST_F(Faults, AFolderThatRanksDoNotShareIsFoundAtTheStart) {
  for (const int rank : {0, 1}) fs::create_directories(file(fmt::format("rank{}", rank)));
  TrainCall call = in_own_folders("run");
  call.set.push_back("output_dir=runs");
  EXPECT_THAT(train(call), EndsWithCode(7, "rank 1: host "));
}

TEST_F(Faults, ADeadRankIsNamedByThoseWhoMissIt) {
  const auto job = start_training({.run = "run", .ranks = 2, .set = {kEndless}});
  ASSERT_TRUE(job->wait_until([&] { return has_step("run", 2); }));
  const auto ranks = job->leaves();
  ASSERT_EQ(ranks.size(), 2u);
  ::kill(ranks[1], SIGKILL);
  const Outcome outcome = job->finish();
  EXPECT_THAT(outcome, EndsWithCode(128 + SIGKILL, "signal 9"));
  EXPECT_THAT(outcome.output, AllOf(HasSubstr("error[5]: "), HasSubstr(" has died (process "),
                                    HasSubstr(": dead; was ")));
  EXPECT_THAT(call({"inspect", file("run"), "--hang"}),
              EndsWithCode(0, fmt::format("process {}): dead; was ", ranks[1])));
}

TEST_F(Faults, AHangLeavesRecordsThatNameTheRank) {
  EXPECT_THAT(train({.run = "run",
                     .ranks = 2,
                     .set = {"runtime.timeout_seconds=1"},
                     .extra = {"--inject", "hang@3:1"}}),
              EndsWithCode(5, "missing: rank 1"));
  const Outcome report = call({"inspect", file("run"), "--hang"});
  EXPECT_THAT(report, EndsWithCode(0, "first out of step: rank 1 (host "));
  EXPECT_THAT(report.output,
              AllOf(HasSubstr("'stop or save' of world"), HasSubstr("step 2, between"),
                    HasSubstr(" s for rank 1 in all_gather #"),
                    HasSubstr("'number of tokens' of data[0]; step 3, forward")));
}

TEST_F(Faults, ARunThatIsAskedWritesItsRecordsAndGoesOn) {
  const auto job = start_training({.run = "run", .ranks = 2, .set = {kEndless}});
  ASSERT_TRUE(job->wait_until([&] { return has_step("run", 2); }));
  job->send(SIGUSR2);
  ASSERT_TRUE(job->wait_until([&] { return fs::exists(file("run/hang")); }));
  const int seen = static_cast<int>(metrics("run").size());
  EXPECT_TRUE(job->wait_until([&] { return has_step("run", seen + 5); }));
  job->send(SIGTERM);
  EXPECT_THAT(job->finish(), EndsWithCode(kPreempted, "the run was saved"));
  EXPECT_THAT(call({"inspect", file("run"), "--hang"}), EndsWithCode(0, ": 2 of 2 ranks, "));
}

TEST_F(Faults, ACrashLeavesItsReportInTheRunsFolder) {
  const auto job = start_training({.run = "run", .ranks = 2, .set = {kEndless}});
  ASSERT_TRUE(job->wait_until([&] { return has_step("run", 2); }));
  const auto ranks = job->leaves();
  ASSERT_EQ(ranks.size(), 2u);
  ::kill(ranks[1], SIGSEGV);
  EXPECT_THAT(job->finish(), EndsWithCode(128 + SIGSEGV, "died of SIGSEGV at step "));
  std::string report = read_file(file("run/crash-rank1.txt"));
  if (report.empty())
    report = read_file(file("run/crash-rank0.txt"));  // which `leaves` does not say
  EXPECT_THAT(report, AllOf(HasSubstr("died of SIGSEGV at step "), HasSubstr(" #"),
                            HasSubstr("backtrace"), HasSubstr("/switchyard(+0x")));
}

// Rank 0 syncs four times in a row while the other waits for its commit, each within the deadline.
TEST_F(Faults, ASlowDiskIsNoHang) {
  const std::string slow = std::string(std::getenv("SY_TEST_BUILD")) + "/tests/libslow_fsync.so";
  EXPECT_THAT(train({.run = "run",
                     .ranks = 2,
                     .set = {"train.steps=2", "runtime.timeout_seconds=2"},
                     .shell = "export LD_PRELOAD=" + slow}),
              EndsWithCode(0, "saved: "));
}

}  // namespace
}  // namespace switchyard::testing
