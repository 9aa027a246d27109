#include "tests/testing/process.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <system_error>
#include <thread>

#include <fmt/format.h>
#include <gtest/gtest.h>

extern char** environ;

namespace switchyard::testing {
namespace {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

pid_t spawn(const std::vector<std::string>& command, const std::string& log) {
  std::vector<char*> arguments;
  for (const std::string& part : command) arguments.push_back(const_cast<char*>(part.c_str()));
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&files, 1, log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
  posix_spawn_file_actions_adddup2(&files, 1, 2);
  pid_t pid = 0;
  const int error = posix_spawn(&pid, arguments[0], &files, nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&files);
  if (error != 0) throw std::system_error(error, std::generic_category(), command[0]);
  return pid;
}

void add_leaves(pid_t parent, std::vector<pid_t>& found) {
  std::vector<pid_t> children;
  std::error_code ignored;
  const std::string threads = fmt::format("/proc/{}/task", parent);
  for (const auto& thread : std::filesystem::directory_iterator(threads, ignored)) {
    std::ifstream list(thread.path() / "children");
    for (pid_t child = 0; list >> child;) children.push_back(child);
  }
  if (children.empty()) found.push_back(parent);
  for (const pid_t child : children) add_leaves(child, found);
}

}  // namespace

void PrintTo(const Outcome& outcome, std::ostream* out) {
  *out << "exit code " << outcome.code << ", output:\n" << outcome.output;
}

Process::Process(const std::vector<std::string>& command, std::string log)
    : pid_(spawn(command, log)), log_(std::move(log)) {}

Process::~Process() {
  if (!is_running()) return;
  kill_all();
}

bool Process::is_running() {
  if (!ended_) ended_ = ::waitpid(pid_, &status_, WNOHANG) == pid_;
  return !ended_;
}

bool Process::wait_until(const std::function<bool()>& condition) {
  const auto deadline = Clock::now() + 60s;
  while (!condition()) {
    if (!is_running() || Clock::now() > deadline) return false;
    std::this_thread::sleep_for(1ms);
  }
  return true;
}

Outcome Process::finish() {
  const auto deadline = Clock::now() + 120s;
  while (is_running() && Clock::now() < deadline) std::this_thread::sleep_for(2ms);
  if (is_running()) {
    ADD_FAILURE() << "hangs: process " << pid_ << " with the output in " << log_;
    kill_all();
  }
  const int code = WIFEXITED(status_) ? WEXITSTATUS(status_) : 128 + WTERMSIG(status_);
  return {code, read_file(log_)};
}

void Process::send(int signal) const { ::kill(pid_, signal); }

void Process::kill_all() {
  for (const pid_t leaf : leaves()) ::kill(leaf, SIGKILL);
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, &status_, 0);
  ended_ = true;
}

std::vector<pid_t> Process::leaves() const {
  std::vector<pid_t> found;
  add_leaves(pid_, found);
  return found;
}

std::string read_file(const std::string& path) {
  std::ostringstream bytes;
  std::ifstream file(path, std::ios::binary);
  if (file) bytes << file.rdbuf();
  return bytes.str();
}

void write_file(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

}  // namespace switchyard::testing
