// scripts/launch around real runs: signals, a terminal that goes, ranks that die.

#include <pty.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>

#include <fmt/format.h>

#include "tests/trainer/run_fixture.h"

namespace switchyard::testing {
namespace {

constexpr int kSteps = 20, kPreempted = 75;

struct Launch : RunTest {
  // A run on two ranks that does not end by itself, after its first step.
  std::unique_ptr<Process> start_endless(const std::string& run) {
    auto job = start_training({.run = run, .ranks = 2, .set = {"train.steps=100000"}});
    EXPECT_TRUE(job->wait_until([&] { return has_step(run, 1); }));
    return job;
  }

  bool is_saved(const std::string& run) const {
    return std::filesystem::exists(file(run + "/checkpoints/LATEST"));
  }
};

// Not what has ended and waits for a parent to look.
bool is_alive(pid_t pid) { return !read_file(fmt::format("/proc/{}/cmdline", pid)).empty(); }

TEST_F(Launch, LetsTheRunSaveOnEverySignalThatAsksForTheEnd) {
  for (const int signal : {SIGHUP, SIGUSR1, SIGINT, SIGTERM}) {
    const std::string run = fmt::format("stopped_by_{}", signal);
    const auto job = start_endless(run);
    const auto ranks = job->leaves();
    job->send(signal);
    job->send(SIGHUP);  // a closing terminal says so twice, and some systems say several things
    EXPECT_THAT(job->finish(), EndsWithCode(kPreempted, "the run was saved; the same command"))
        << run;
    EXPECT_TRUE(is_saved(run)) << run;
    for (const pid_t rank : ranks) EXPECT_FALSE(is_alive(rank)) << run;
  }
}

TEST_F(Launch, EndsARunThatHangsAtTheSecondSignal) {
  for (const int signal : {SIGINT, SIGTERM}) {
    const std::string run = fmt::format("hanging_{}", signal);
    const auto job = start_training(
        {.run = run, .ranks = 2, .extra = {"--inject", "hang@2:0", "--inject", "hang@2:1"}});
    ASSERT_TRUE(job->wait_until([&] { return has_step(run, 1); }));
    const auto ranks = job->leaves();
    job->send(SIGHUP);
    job->send(signal);
    ::usleep(300'000);
    EXPECT_TRUE(job->is_running()) << "the first only asks";
    job->send(signal);
    EXPECT_NE(job->finish().code, kPreempted);
    for (const pid_t rank : ranks) EXPECT_FALSE(is_alive(rank)) << run;
  }
}

TEST_F(Launch, GoesOnWithoutATerminalUnderNohup) {
  const std::string binary = std::string(std::getenv("SY_TEST_BUILD")) + "/switchyard";
  Process job({"/usr/bin/nohup", project("scripts/launch"), "-n", "2", "--oversubscribe", binary,
               "train", project("configs/debug.textproto"), "--set", "output_dir=" + file("."),
               "--set", "name=run", "--set", "runtime.threads=1"},
              file("nohup.txt"));
  ASSERT_TRUE(job.wait_until([&] { return has_step("run", 1); }));
  job.send(SIGHUP);
  EXPECT_THAT(job.finish(), EndsWithCode(0, ""));
}

TEST_F(Launch, LetsTheRunSaveWhenItsTerminalCloses) {
  const std::string launch = project("scripts/launch"), config = project("configs/debug.textproto"),
                    binary = std::string(std::getenv("SY_TEST_BUILD")) + "/switchyard",
                    output_dir = "output_dir=" + file(".");
  int terminal = -1;
  const pid_t job = ::forkpty(&terminal, nullptr, nullptr, nullptr);
  ASSERT_GE(job, 0);
  if (job == 0) {
    ::execl(launch.c_str(), launch.c_str(), "-n", "2", "--oversubscribe", binary.c_str(), "train",
            config.c_str(), "--set", output_dir.c_str(), "--set", "name=run", "--set",
            "runtime.threads=1", "--set", "train.steps=100000", nullptr);
    ::_exit(127);
  }
  char text[4096];
  while (!has_step("run", 3) && ::read(terminal, text, sizeof text) > 0) {
  }
  ::close(terminal);  // the kernel sends HUP
  int status = 0;
  ASSERT_EQ(::waitpid(job, &status, 0), job);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == kPreempted) << status;
  EXPECT_TRUE(is_saved("run"));
}

TEST_F(Launch, StartsARunAgainWhoseRankDiedOrHung) {
  expect_trained({.run = "whole", .ranks = 2});
  struct Case {
    std::string fault, message;
  };
  for (const auto& [fault, message] :
       {Case{"die@8:1", "a rank died of SIGKILL (exit code 137); restart 1 of 2"},
        Case{"hang@8:1", "the ranks lost one another (exit code 5); restart 1 of 2"}}) {
    const std::string run = fault.substr(0, fault.find('@'));
    const Outcome outcome = train({.run = run,
                                   .ranks = 2,
                                   .set = {"checkpoint.every=3", "runtime.timeout_seconds=2"},
                                   .extra = {"--inject", fault},
                                   .launch = {"--max-restarts", "2"}});
    EXPECT_THAT(outcome, EndsWithCode(0, message));
    EXPECT_THAT(outcome.output, ::testing::HasSubstr("resumed at step 6"));
    expect_same_end(run, "whole", kSteps);
  }
}

TEST_F(Launch, WaitsForARankThatWasStopped) {
  expect_trained({.run = "whole", .ranks = 2});
  const auto job = start_training({.run = "run", .ranks = 2});
  ASSERT_TRUE(job->wait_until([&] { return has_step("run", 1); }));
  const auto ranks = job->leaves();
  ASSERT_EQ(ranks.size(), 2u);
  ::kill(ranks[1], SIGSTOP);
  ::usleep(1'000'000);
  EXPECT_TRUE(job->is_running());
  ::kill(ranks[1], SIGCONT);
  EXPECT_THAT(job->finish(), EndsWithCode(0, ""));
  expect_same_end("run", "whole", kSteps);
}

TEST_F(Launch, RefusesRestartsOfARunThatGoesBackToACheckpoint) {
  EXPECT_THAT(train({.run = "run",
                     .extra = {"--resume", file("run/checkpoints/step_2")},
                     .launch = {"--max-restarts", "2"}}),
              EndsWithCode(2, "each restart would go back to that checkpoint"));
}

}  // namespace
}  // namespace switchyard::testing
