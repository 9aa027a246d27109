// Which library multiplies matrices is part of a run; how fast the machine multiplies is not.

#include <cstdlib>
#include <filesystem>

#include <fmt/format.h>

#include "tests/trainer/run_fixture.h"

namespace switchyard::testing {
namespace {

// What the binary inherits while this lives.
class Environment {
 public:
  Environment(const char* name, const std::string& value) : name_(name) {
    if (const char* before = std::getenv(name)) before_ = before;
    ::setenv(name, value.c_str(), 1);
  }
  ~Environment() { before_.empty() ? ::unsetenv(name_) : ::setenv(name_, before_.c_str(), 1); }
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

 private:
  const char* name_;
  std::string before_;
};

// The binary as on a processor without AVX-512.
struct PlainProcessor {
  Environment kernels{"ATEN_CPU_CAPABILITY", "avx2"}, onednn{"ONEDNN_MAX_CPU_ISA", "AVX2"};
};

struct Products : RunTest {
  std::string config_of(const std::string& run) const {
    return read_file(file(run + "/config.textproto"));
  }
};

using ::testing::HasSubstr;

const std::string kPlain = "float32_products: MKL\n  bfloat16_products: AS_FLOAT32\n";
const Arguments kAskForPlain{"runtime.float32_products=MKL",
                             "runtime.bfloat16_products=AS_FLOAT32"};

TEST_F(Products, AreWrittenDownAndKeptByARunThatGoesOn) {
  for (const std::string compute : {"FP32", "BF16"}) {
    const Arguments wide{"runtime.compute=" + compute, "model.d_model=128", "model.moe.d_ff=128",
                         "train.steps=6"};
    Arguments asked = wide;
    asked.insert(asked.end(), kAskForPlain.begin(), kAskForPlain.end());
    Arguments stopped = asked;
    stopped.push_back("train.stop_after_steps=3");
    const std::string run = "stopped-" + compute, whole = "whole-" + compute;
    expect_trained({.run = whole, .set = asked});
    EXPECT_THAT(train({.run = run, .set = stopped}), EndsWithCode(75, "products: float32 MKL"));
    expect_trained({.run = run, .set = wide});  // does not ask
    EXPECT_THAT(config_of(run), HasSubstr(kPlain));
    expect_same_end(run, whole, 6);
  }
}

TEST_F(Products, ThatTheProcessorLacksAreRefused) {
  const PlainProcessor plain;
  EXPECT_THAT(train({.run = "a", .set = {"runtime.bfloat16_products=NATIVE"}}),
              EndsWithCode(2, "runtime.bfloat16_products (NATIVE) needs AVX-512"));
  EXPECT_THAT(train({.run = "b", .ranks = 2, .set = {"runtime.float32_products=ONEDNN"}}),
              EndsWithCode(2, "runtime.float32_products (ONEDNN) needs AVX-512"));
}

TEST_F(Products, OfARunThatChangesItsProcessorAreWarnedOf) {
  const Outcome here = train({.run = "here", .set = {"train.stop_after_steps=2"}});
  const bool is_wide = here.output.find(", AVX512)") != std::string::npos;
  {
    const PlainProcessor plain;
    EXPECT_THAT(train({.run = "there", .set = {"train.stop_after_steps=2"}}),
                EndsWithCode(75, ", AVX2)"));
    const char* warning = "was saved on another kind of processor";
    const Outcome moved = train({.run = "here"});
    EXPECT_EQ(moved.code, 0);
    EXPECT_EQ(moved.output.find(warning) != std::string::npos, is_wide) << moved.output;
    EXPECT_THAT(config_of("here"), HasSubstr(kPlain));
  }
  // What was begun without AVX-512 keeps its products where there is AVX-512.
  const Outcome back = train({.run = "there"});
  EXPECT_EQ(back.code, 0);
  EXPECT_THAT(config_of("there"), HasSubstr(kPlain));
}

// The measured limit is kept beside the user's other caches; whatever stands there, mfu is a share.
TEST_F(Products, MeasuredOnceMakeMfuAShareOfOne) {
  const Environment cache("XDG_CACHE_HOME", file("cache"));
  const std::string peaks = file("cache/switchyard/peak_rates.json");
  expect_trained({.run = "first"});
  const auto rates = nlohmann::json::parse(read_file(peaks));
  ASSERT_EQ(rates.size(), 1u);
  EXPECT_GT(rates.begin()->at("flops_per_second"), 1e8);
  const std::string key = rates.begin().key();
  int runs = 0;
  const auto old = [&](double rate) {
    return nlohmann::json{{key, {{"flops_per_second", rate}, {"measured_at", 0}}}}.dump();
  };
  for (const std::string& content :
       {old(1), old(1e308), std::string("no json"), std::string("{\"a\":1}")}) {
    write_file(peaks, content);
    const std::string run = fmt::format("run{}", ++runs);
    expect_trained({.run = run});
    for (const auto& record : timing(run)) {
      if (!record.contains("mfu")) continue;
      EXPECT_GT(record["mfu"], 0);
      EXPECT_LE(record["mfu"], 1);
    }
    EXPECT_GT(nlohmann::json::parse(read_file(peaks))[key]["flops_per_second"], 1e8);
  }
  write_file(peaks, old(1e18));  // seen once, on a better day
  expect_trained({.run = "slow"});
  EXPECT_EQ(nlohmann::json::parse(read_file(peaks))[key]["flops_per_second"], 1e18);
  std::filesystem::remove_all(peaks);
  std::filesystem::create_directory(peaks);
  expect_trained({.run = "folder"});
  std::filesystem::remove_all(file("cache"));
  write_file(file("cache"), "a file where the folder should be");
  expect_trained({.run = "nowhere"});
}

}  // namespace
}  // namespace switchyard::testing
