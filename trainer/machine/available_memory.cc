#include "trainer/machine/available_memory.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <vector>

namespace switchyard::trainer {
namespace {

namespace fs = std::filesystem;

// The number behind a word, as in /proc/meminfo and memory.stat; 0 where there is none.
uint64_t number_behind(const std::string& path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);)
    if (line.starts_with(key + " ") || line.starts_with(key + ":"))
      return std::strtoull(line.c_str() + key.size() + 1, nullptr, 10);
  return 0;
}

// "max" and missing files: 0.
uint64_t number_in(const std::string& path) {
  uint64_t number = 0;
  std::ifstream(path) >> number;
  return number;
}

// Names of a control group's files, by version.
struct Version {
  const char *mount, *limit, *used, *cache[2];
};
constexpr Version kV1{"/sys/fs/cgroup/memory",
                      "/memory.limit_in_bytes",
                      "/memory.usage_in_bytes",
                      {"total_inactive_file", "total_active_file"}};
constexpr Version kV2{
    "/sys/fs/cgroup", "/memory.max", "/memory.current", {"inactive_file", "active_file"}};

void apply_limit(const Version& version, const std::string& group, Memory& memory) {
  const uint64_t limit = number_in(group + version.limit);
  if (limit == 0 || limit >= memory.total_bytes) return;  // version 1 has no word for "none"
  uint64_t used = number_in(group + version.used);
  for (const char* cache : version.cache)
    used -= std::min(used, number_behind(group + "/memory.stat", cache));
  memory.available_bytes = std::min(memory.available_bytes, limit - std::min(limit, used));
  memory.limit_bytes = memory.limit_bytes > 0 ? std::min(memory.limit_bytes, limit) : limit;
}

// A group and all above it. In a container the path may be that of the host: then only the mount
// itself is there, and it is the container's own group.
void apply_limits(const Version& version, const std::string& root, std::string path,
                  Memory& memory) {
  for (; !path.empty(); path.resize(path.find_last_of('/')))
    apply_limit(version, root + version.mount + (path == "/" ? "" : path), memory);
  apply_limit(version, root + version.mount, memory);
}

}  // namespace

Memory look_at_memory(const std::string& root) {
  constexpr uint64_t kKiB = 1024;
  const std::string meminfo = root + "/proc/meminfo";
  Memory memory{kKiB * number_behind(meminfo, "MemTotal"),
                kKiB * number_behind(meminfo, "MemAvailable")};
  std::ifstream groups(root + "/proc/self/cgroup");  // "0::/a/b" or "5:memory:/a/b"
  for (std::string line; std::getline(groups, line);) {
    const size_t controllers = line.find(':') + 1, path = line.find(":/", controllers);
    if (controllers == 0 || path == line.npos) continue;
    const std::string names = "," + line.substr(controllers, path - controllers) + ",";
    if (names == ",,") apply_limits(kV2, root, line.substr(path + 1), memory);
    if (names.find(",memory,") != names.npos)
      apply_limits(kV1, root, line.substr(path + 1), memory);
  }
  return memory;
}

}  // namespace switchyard::trainer
