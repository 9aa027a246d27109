#include "trainer/machine/machine.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>

#include <fmt/format.h>

#include "core/base/errors.h"
#include "core/base/seconds.h"
#include "core/base/threads.h"
#include "core/io/file.h"

namespace switchyard::trainer {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr uint64_t kTrialBytes = 16 << 20;
constexpr int kLaunchSeconds = 30;

std::string read_text(const char* path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

std::string shell_quoted(const std::string& text) {
  std::string out = "'";
  for (char c : text) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

bool is_in_path(const char* program) {
  return try_command(fmt::format("command -v {}", program), 5).status == 0;
}

void write_trial_file(const std::string& path) {
  const std::vector<std::byte> block(kTrialBytes, std::byte{0x5a});
  OutputFile file(path, OutputFile::Mode::kReplace);
  file.write(block);
  file.sync();
  file.close();
}

Trial try_launch(const std::string& launcher) {
  // The environment form of --allow-run-as-root, which other launchers ignore.
  const std::string environment =
      geteuid() == 0 ? "OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 " : "";
  return try_command(environment + shell_quoted(launcher) + " --oversubscribe -np 2 true",
                     kLaunchSeconds);
}

}  // namespace

Trial try_command(const std::string& command, int timeout_seconds) {
  const std::string limited =
      fmt::format("timeout {} sh -c {} </dev/null 2>&1", timeout_seconds, shell_quoted(command));
  const auto start = Clock::now();
  Trial trial;
  FILE* pipe = popen(limited.c_str(), "r");
  if (!pipe) throw_errno("cannot start a shell for", command);
  char part[4096];
  while (const size_t count = fread(part, 1, sizeof part, pipe)) trial.output.append(part, count);
  const int status = pclose(pipe);
  trial.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  trial.seconds = seconds_since(start);
  trial.output.erase(trial.output.find_last_not_of(" \n") + 1);
  return trial;
}

DiskTrial try_disk(const std::string& folder) {
  DiskTrial trial{.folder = folder};
  const std::string path = fmt::format("{}/.switchyard-doctor-{}", folder, getpid());
  std::error_code ignored;
  bool is_new = false;
  try {
    is_new = fs::create_directories(folder);
    const auto start = Clock::now();
    write_trial_file(path);
    trial.seconds = seconds_since(start);
    trial.written_bytes = kTrialBytes;
    fs::remove(path);
    trial.free_bytes = free_bytes(folder);
  } catch (const std::exception& error) {
    trial.error = error.what();
    fs::remove(path, ignored);
  }
  if (is_new) fs::remove(folder, ignored);
  return trial;
}

std::vector<std::string> parse_cpu_flags(std::string_view cpuinfo) {
  const size_t at = cpuinfo.find("\nflags");
  if (at == cpuinfo.npos) return {};
  const std::string_view line = cpuinfo.substr(at + 1, cpuinfo.find('\n', at + 1) - at - 1);
  std::istringstream words(std::string(line.substr(std::min(line.find(':') + 1, line.size()))));
  return {std::istream_iterator<std::string>(words), {}};
}

Machine look_at_machine(const std::string& output_folder, const std::string& launcher) {
  Machine machine;
  machine.cores = available_cores();
  machine.cpu_flags = parse_cpu_flags(read_text("/proc/cpuinfo"));
  machine.memory = look_at_memory();
  machine.shared_memory_bytes = fs::exists("/dev/shm") ? free_bytes("/dev/shm") : 0;
  if (const char* threads = std::getenv("OMP_NUM_THREADS")) machine.omp_num_threads = threads;
  machine.is_inside_job = std::getenv("OMPI_COMM_WORLD_SIZE") || std::getenv("PMI_SIZE");
  machine.has_apt = fs::exists("/usr/lib/apt/apt-helper") && is_in_path("apt-get");
  machine.has_nvidia_device = fs::exists("/dev/nvidia0");
  if (!machine.is_inside_job) machine.launch = try_launch(launcher);
  machine.disk = try_disk(output_folder);
  return machine;
}

}  // namespace switchyard::trainer
