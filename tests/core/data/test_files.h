#pragma once
// Small files and sources for the tests of core/data.

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "core/data/token_source.h"

namespace switchyard::testing_data {

// A folder of its own for the running test.
inline std::string test_folder() {
  const auto* info = ::testing::UnitTest::GetInstance()->current_test_info();
  const std::string folder =
      ::testing::TempDir() + "core_data/" + info->test_suite_name() + "." + info->name() + "/";
  std::filesystem::create_directories(folder);
  return folder;
}

inline std::string write_file(const std::string& name, const std::string& bytes) {
  const std::string path = test_folder() + name;
  std::ofstream(path, std::ios::binary) << bytes;
  return path;
}

inline std::string read_file(const std::string& path) {
  std::ostringstream bytes;
  bytes << std::ifstream(path, std::ios::binary).rdbuf();
  return bytes.str();
}

// The message of the E that `call` throws; a failure if it throws none.
template <typename E, typename Call>
std::string message_of(Call call) {
  try {
    call();
  } catch (const E& error) {
    return error.what();
  }
  ADD_FAILURE() << "no exception of the expected kind";
  return "";
}

// Documents held in memory; empty ones are allowed.
class VectorSource final : public TokenSource {
 public:
  explicit VectorSource(std::vector<std::vector<int32_t>> documents) {
    int32_t number = -1;
    for (const auto& document : documents) {
      if (!document.empty()) ++number;
      for (const int32_t token : document) stream_.emplace_back(token, number);
    }
  }

  std::string name() const override { return "vector"; }
  int64_t num_tokens() const override { return static_cast<int64_t>(stream_.size()); }
  void read(int64_t first, std::span<int32_t> tokens) const override {
    for (size_t i = 0; i < tokens.size(); ++i)
      tokens[i] = stream_.at(static_cast<size_t>(first) + i).first;
  }
  void segments(int64_t first, std::span<int32_t> numbers) const override {
    for (size_t i = 0; i < numbers.size(); ++i)
      numbers[i] = stream_.at(static_cast<size_t>(first) + i).second -
                   stream_.at(static_cast<size_t>(first)).second;
  }
  uint64_t fingerprint() const override { return stream_.size(); }

 private:
  std::vector<std::pair<int32_t, int32_t>> stream_;  // token, document
};

}  // namespace switchyard::testing_data
