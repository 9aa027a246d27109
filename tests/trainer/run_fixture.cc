#include "tests/trainer/run_fixture.h"

#include <cstdlib>
#include <filesystem>
#include <sstream>
#include <stdexcept>

#include <fmt/format.h>

namespace switchyard::testing {
namespace {

namespace fs = std::filesystem;

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr)
    throw std::runtime_error(fmt::format("{} is unset: run this by ctest", name));
  return value;
}

std::vector<nlohmann::json> json_lines(const std::string& path) {
  std::vector<nlohmann::json> records;
  std::istringstream lines(read_file(path));
  for (std::string line; std::getline(lines, line);) records.push_back(nlohmann::json::parse(line));
  return records;
}

}  // namespace

RunTest::RunTest() {
  const auto* info = ::testing::UnitTest::GetInstance()->current_test_info();
  std::string name = fmt::format("{}.{}", info->test_suite_name(), info->name());
  for (char& c : name) c = c == '/' ? '-' : c;
  folder_ = fs::absolute(environment("SY_TEST_BUILD") + "/run_test/" + name).string();
  fs::remove_all(folder_);
  fs::create_directories(folder_);
}

std::string RunTest::project(const std::string& path) {
  return fs::absolute(environment("SY_TEST_ROOT") + "/" + path).string();
}

std::unique_ptr<Process> RunTest::start(const Arguments& arguments, int ranks,
                                        const Arguments& launch, const std::string& shell) {
  Arguments command;
  if (ranks > 1 || !launch.empty()) {
    command = {project("scripts/launch"), "-n", std::to_string(ranks), "--oversubscribe"};
    command.insert(command.end(), launch.begin(), launch.end());
  }
  if (!shell.empty()) {
    command.insert(command.end(), {"/bin/sh", "-c", shell + "; exec \"$@\"", "sh"});
  }
  command.push_back(fs::absolute(environment("SY_TEST_BUILD") + "/switchyard").string());
  command.insert(command.end(), arguments.begin(), arguments.end());
  return std::make_unique<Process>(command, file(fmt::format("output_{}.txt", ++num_calls_)));
}

Outcome RunTest::call(const Arguments& arguments, int ranks) {
  return start(arguments, ranks)->finish();
}

std::unique_ptr<Process> RunTest::start_training(const TrainCall& call) {
  Arguments arguments{"train",
                      call.config.empty() ? project("configs/debug.textproto") : call.config};
  Arguments set{"output_dir=" + folder_, "name=" + call.run,
                "runtime.threads=" + std::to_string(call.threads)};
  set.insert(set.end(), call.set.begin(), call.set.end());
  for (const std::string& assignment : set) {
    arguments.push_back("--set");
    arguments.push_back(assignment);
  }
  arguments.insert(arguments.end(), call.extra.begin(), call.extra.end());
  return start(arguments, call.ranks, call.launch, call.shell);
}

Outcome RunTest::train(const TrainCall& call) { return start_training(call)->finish(); }

void RunTest::expect_trained(const TrainCall& call) {
  EXPECT_THAT(train(call), EndsWithCode(0, ""));
}

std::vector<nlohmann::json> RunTest::metrics(const std::string& run) const {
  return json_lines(file(run + "/metrics.jsonl"));
}

std::vector<nlohmann::json> RunTest::timing(const std::string& run) const {
  return json_lines(file(run + "/timing.jsonl"));
}

std::map<int, double> RunTest::losses(const std::string& run) const {
  std::map<int, double> losses;
  for (const auto& record : metrics(run)) {
    if (record.contains("loss")) losses[record["step"]] = record["loss"];
  }
  return losses;
}

bool RunTest::has_step(const std::string& run, int step) const {
  const std::string text = read_file(file(run + "/metrics.jsonl"));
  return text.find(fmt::format("{{\"step\":{},", step)) != std::string::npos ||
         text.find(fmt::format("{{\"step\": {},", step)) != std::string::npos;
}

void RunTest::expect_same_end(const std::string& run, const std::string& expected, int step) const {
  EXPECT_EQ(read_file(file(run + "/metrics.jsonl")), read_file(file(expected + "/metrics.jsonl")));
  const std::string checkpoint = fmt::format("/checkpoints/step_{}", step);
  int shards = 0;
  for (const auto& entry : fs::directory_iterator(file(expected + checkpoint))) {
    if (entry.path().extension() != ".safetensors") continue;
    const std::string name = entry.path().filename().string();
    // Not EXPECT_EQ: it would print megabytes.
    EXPECT_TRUE(read_file(file(run + checkpoint + "/" + name)) == read_file(entry.path())) << name;
    ++shards;
  }
  EXPECT_GE(shards, 2);
}

std::string RunTest::tokenize_documents() {
  Arguments arguments{"tokenize"};
  for (const char* name : {"formats.md", "checkpoint_format.md", "glossary.md"}) {
    arguments.push_back(project(std::string("docs/") + name));
  }
  const std::string prefix = file("documents");
  arguments.insert(arguments.end(), {"--tokenizer", "bytes", "--out", prefix});
  EXPECT_THAT(call(arguments), EndsWithCode(0, "documents"));
  return prefix;
}

std::string RunTest::config_for(const std::string& prefix) {
  const std::string path = file("text.textproto");
  write_file(path, fmt::format(R"(seed: 2
model {{
  num_layers: 2 d_model: 64 vocab_size: 264
  attention {{ num_heads: 4 num_kv_heads: 2 }}
  moe {{ num_experts: 4 top_k: 2 d_ff: 64 }}
}}
data {{
  tokenizer: "bytes" sequence_length: 64
  train {{ path: "{0}" }}
  validation {{ name: "documents" path: "{0}" }}
}}
train {{ steps: 60 global_batch: 8 }}
optimizer {{ lr: 1e-2 warmup_steps: 5 }}
eval {{ every: 0 sequences: 16 }}
)",
                               prefix));
  return path;
}

}  // namespace switchyard::testing
