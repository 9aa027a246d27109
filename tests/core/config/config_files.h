#pragma once
// A scratch folder with config files, and what loading one of them says.

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "core/base/errors.h"
#include "core/config/reader.h"

namespace switchyard::config {

// A run that is valid as it stands; tests add lines to it or replace text in it.
inline const std::string kSmallRun = R"(model {
  num_layers: 2
  d_model: 64
  vocab_size: 264
  attention { num_heads: 4 }
  moe { num_experts: 4 d_ff: 32 }
}
data { sequence_length: 32 synthetic {} }
train { steps: 10 global_batch: 8 }
)";

// The same of a table, whose columns and classes are lists of plain texts.
inline const std::string kTableRun = R"(model { architecture: LOCAL_EXPERTS }
data {
  table {
    path: "t.csv" features: "F1" features: "F2" label: "V" classes: "a" classes: "b" group: "S"
    train_groups: 5 test_groups: 2
  }
}
train { steps: 10 global_batch: 8 }
)";

class ConfigFiles : public testing::Test {
 protected:
  ConfigFiles() { std::filesystem::create_directories(folder_ / "configs" / "models"); }
  ~ConfigFiles() override { std::filesystem::remove_all(folder_); }

  std::string write(const std::string& name, const std::string& text) {
    std::ofstream(folder_ / "configs" / name, std::ios::binary) << text;
    return (folder_ / "configs" / name).string();
  }
  std::string run(const std::string& text) { return write("run.textproto", text); }

  // kSmallRun with `from` replaced by `to`.
  static std::string edited(const std::string& from, const std::string& to) {
    std::string text = kSmallRun;
    const size_t at = text.find(from);
    if (at == std::string::npos) throw std::logic_error("no " + from + " in kSmallRun");
    return text.replace(at, from.size(), to);
  }

  // What load_config throws, without the scratch folder's path; "" when it throws nothing.
  std::string error(const std::string& text, const std::vector<std::string>& overrides = {},
                    int num_ranks = 0) {
    try {
      load_config(run(text), overrides, {num_ranks});
      return "";
    } catch (const ConfigError& failure) {
      std::string message = failure.what();
      const std::string prefix = (folder_ / "configs").string() + "/";
      for (size_t at; (at = message.find(prefix)) != std::string::npos;)
        message.erase(at, prefix.size());
      return message;
    }
  }

  const std::filesystem::path folder_ =
      std::filesystem::path(testing::TempDir()) /
      ("sy_config_" + std::string(testing::UnitTest::GetInstance()->current_test_info()->name()));
};

}  // namespace switchyard::config
