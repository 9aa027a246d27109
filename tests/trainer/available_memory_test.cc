#include "trainer/machine/available_memory.h"

#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>

namespace switchyard::trainer {
namespace {

constexpr uint64_t kGiB = 1 << 30;

// A machine of 8 GiB with 4 GiB available, as files below a folder.
struct AvailableMemory : ::testing::Test {
  AvailableMemory() {
    std::filesystem::remove_all(root);
    put("/proc/meminfo", "MemTotal:       8388608 kB\nMemFree: 1 kB\nMemAvailable:   4194304 kB\n");
  }
  void put(const std::string& path, const std::string& text) const {
    std::filesystem::create_directories(std::filesystem::path(root + path).parent_path());
    std::ofstream(root + path) << text;
  }
  void put_v2(const std::string& group, const std::string& limit, uint64_t used) const {
    put("/sys/fs/cgroup" + group + "/memory.max", limit + "\n");
    put("/sys/fs/cgroup" + group + "/memory.current", std::to_string(used) + "\n");
  }

  const std::string root = ::testing::TempDir() + "available_memory";
};

TEST_F(AvailableMemory, IsTheMachinesWhereNoGroupLimitsIt) {
  put("/proc/self/cgroup", "0::/user\n");
  put_v2("/user", "max", 5);
  const Memory memory = look_at_memory(root);
  EXPECT_EQ(memory.total_bytes, 8 * kGiB);
  EXPECT_EQ(memory.available_bytes, 4 * kGiB);
  EXPECT_EQ(memory.limit_bytes, 0u);
}

TEST_F(AvailableMemory, IsWhatEveryGroupAboveLeaves) {
  put("/proc/self/cgroup", "0::/job/step\n");
  put_v2("/job", "2147483648", kGiB);  // 1 GiB left
  put_v2("/job/step", "3221225472", kGiB);
  EXPECT_EQ(look_at_memory(root).available_bytes, kGiB);
  EXPECT_EQ(look_at_memory(root).limit_bytes, 2 * kGiB);
  put_v2("/job/step", "1073741824", 2 * kGiB);
  EXPECT_EQ(look_at_memory(root).available_bytes, 0u);
}

TEST_F(AvailableMemory, CountsCachedFilesAsFree) {
  put("/proc/self/cgroup", "0::/\n");
  put_v2("", "2147483648", 2 * kGiB);
  put("/sys/fs/cgroup/memory.stat",
      "anon 1\nfile 1\ninactive_file 536870912\nactive_file 536870912\n");
  EXPECT_EQ(look_at_memory(root).available_bytes, kGiB);
}

// The second path is the host's: in the container only the mount is there.
TEST_F(AvailableMemory, ReadsGroupsOfVersionOne) {
  for (const std::string group : {"/a", "/docker/0123"}) {
    put("/proc/self/cgroup", "7:cpu,cpuacct:/\n5:memory:" + group + "\n0::/\n");
    const std::string folder = "/sys/fs/cgroup/memory" + (group == "/a" ? group : "");
    put(folder + "/memory.limit_in_bytes", "2147483648\n");
    put(folder + "/memory.usage_in_bytes", "1073741824\n");
    put(folder + "/memory.stat", "inactive_file 9\ntotal_inactive_file 536870912\n");
    EXPECT_EQ(look_at_memory(root).available_bytes, kGiB + kGiB / 2);
    std::filesystem::remove_all(root + "/sys");
  }
  put("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  EXPECT_EQ(look_at_memory(root).limit_bytes, 0u);
}

}  // namespace
}  // namespace switchyard::trainer
