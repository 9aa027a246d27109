// Runs a fuzz target over files and folders of files: replay PATH... It ends with 0 if the target
// survives them all.

#include <filesystem>
#include <string>
#include <vector>

#include "tests/fuzz/target.h"
#include "tests/testing/process.h"

namespace {

namespace fs = std::filesystem;

std::vector<std::string> files_below(const std::string& path) {
  if (!fs::is_directory(path)) return {path};
  std::vector<std::string> files;
  for (const auto& entry : fs::directory_iterator(path)) files.push_back(entry.path().string());
  return files;
}

}  // namespace

int main(int argc, char** argv) {
  int count = 0;
  for (int i = 1; i < argc; ++i) {
    for (const std::string& file : files_below(argv[i])) {
      fmt::print(stderr, "{}\n", file);  // the last line names the one that crashed
      const std::string bytes = switchyard::testing::read_file(file);
      LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
      ++count;
    }
  }
  fmt::print("{} inputs\n", count);
  return count > 0 ? 0 : 2;
}
