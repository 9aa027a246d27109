#pragma once
// The real binary on small runs, each test in a folder of its own below the build folder.

#include <map>
#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/testing/process.h"

namespace switchyard::testing {

using Arguments = std::vector<std::string>;

struct TrainCall {
  std::string run;  // the run's name: its folder is file(run)
  int ranks = 1;
  int threads = 1;          // per rank; more are slow where other tests use the cores
  Arguments set = {};       // "path=value"
  Arguments extra = {};     // other arguments
  std::string config = {};  // a file; default: configs/debug.textproto, 20 steps
  Arguments launch = {};    // further options of scripts/launch; with one, one rank is under it too
  std::string shell = {};   // what each rank's shell does before it becomes the program
};

class RunTest : public ::testing::Test {
 protected:
  RunTest();

  std::string file(const std::string& name) const { return folder_ + "/" + name; }
  // A path in the project.
  static std::string project(const std::string& path);

  // switchyard with these arguments, on so many ranks under scripts/launch (1: by itself, unless
  // there are options for it).
  std::unique_ptr<Process> start(const Arguments& arguments, int ranks = 1,
                                 const Arguments& launch = {}, const std::string& shell = {});
  Outcome call(const Arguments& arguments, int ranks = 1);

  std::unique_ptr<Process> start_training(const TrainCall& call);
  Outcome train(const TrainCall& call);
  // Trains to the end; a test failure if the exit code is not 0.
  void expect_trained(const TrainCall& call);

  // Lines of a run's metrics.jsonl (timing.jsonl), in order.
  std::vector<nlohmann::json> metrics(const std::string& run) const;
  std::vector<nlohmann::json> timing(const std::string& run) const;
  // Training losses by step.
  std::map<int, double> losses(const std::string& run) const;
  bool has_step(const std::string& run, int step) const;

  // The same bytes: metrics, weights and moments of the checkpoint of `step`.
  void expect_same_end(const std::string& run, const std::string& expected, int step) const;

  // Token file from the project's own documents, with the bytes tokenizer; returns its prefix.
  std::string tokenize_documents();
  // A config that trains on token files; returns its path.
  std::string config_for(const std::string& prefix);

 private:
  std::string folder_;
  int num_calls_ = 0;
};

MATCHER_P2(EndsWithCode, code, text, "") {
  return arg.code == code && arg.output.find(text) != std::string::npos;
}

}  // namespace switchyard::testing
