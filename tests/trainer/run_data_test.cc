// Token files and tokenizers of the binary's runs: who made them, and what was changed since.

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "tests/trainer/run_fixture.h"

namespace switchyard::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::Not;

struct Data : RunTest {
  // As config_for(), without data.tokenizer, for two steps.
  std::string config_without_tokenizer(const std::string& prefix) {
    const std::string path = config_for(prefix), named = "tokenizer: \"bytes\"";
    std::string text = read_file(path);
    text.erase(text.find(named), named.size());
    write_file(path, text);
    return path;
  }

  Outcome train_on(const std::string& prefix, const Arguments& set,
                   const std::string& run = "run") {
    Arguments all{"train.steps=2", "model.num_layers=1", "optimizer.warmup_steps=0"};
    all.insert(all.end(), set.begin(), set.end());
    return train({.run = run, .set = all, .config = config_without_tokenizer(prefix)});
  }

  // The vocabulary of its own that the project's documents give.
  std::string make_model() {
    const std::string path = file("words.model");
    EXPECT_THAT(call({"tokenize", project("docs/formats.md"), "--tokenizer", path, "--vocab-size",
                      "400", "--sample-mb", "0.05"}),
                EndsWithCode(0, path));
    return path;
  }
};

TEST_F(Data, ComesWithItsTokenizer) {
  const std::string model = make_model(), prefix = file("tokens/words");
  ASSERT_THAT(
      call({"tokenize", project("docs/glossary.md"), "--tokenizer", model, "--out", prefix}),
      EndsWithCode(0, ""));
  ASSERT_THAT(train_on(prefix, {"model.vocab_size=400"}), EndsWithCode(0, ""));
  EXPECT_THAT(read_file(file("run/config.textproto")), HasSubstr("tokenizer: \"" + model + "\""));
  EXPECT_EQ(read_file(file("run/tokenizer.model")), read_file(model));
  EXPECT_THAT(train_on(prefix, {"data.tokenizer=bytes"}, "other"),
              EndsWithCode(3, "was made with the tokenizer \"" + model + "\""));
  EXPECT_THAT(call({"eval", file("run"), "--data", tokenize_documents()}),
              EndsWithCode(3, "was made with the tokenizer \"bytes\""));

  // A run's vocabulary that is not the one it was trained with.
  std::ofstream(file("run/tokenizer.model"), std::ios::app) << "\x52\x01x";  // an unknown field
  for (const char* command : {"eval", "generate"})
    EXPECT_THAT(call({command, file("run")}),
                EndsWithCode(3, "run/tokenizer.model: its fingerprint is"));
}

TEST_F(Data, OfAnotherProgramNeedsAWordAboutItsTokenizer) {
  const std::string prefix = tokenize_documents();
  fs::remove(prefix + ".meta.json");
  EXPECT_THAT(train_on(prefix, {}), EndsWithCode(3, "set data.tokenizer"));
  EXPECT_THAT(train_on(prefix, {"data.tokenizer=bytes"}, "bytes"),
              EndsWithCode(0, "there is no " + prefix + ".meta.json"));
  ASSERT_THAT(train_on(prefix, {"data.tokenizer=none"}, "none"), EndsWithCode(0, ""));
  EXPECT_THAT(read_file(file("bytes/metrics.jsonl")), HasSubstr("bits_per_byte"));
  EXPECT_THAT(read_file(file("none/metrics.jsonl")), Not(HasSubstr("bits_per_byte")));
  const Outcome evaluated = call({"eval", file("none"), "--json"});
  EXPECT_THAT(evaluated, EndsWithCode(0, "loss"));
  EXPECT_THAT(evaluated.output, Not(HasSubstr("bits_per_byte")));
  EXPECT_THAT(call({"generate", file("none")}), EndsWithCode(2, "data.tokenizer \"none\""));
}

TEST_F(Data, ThatWasOverwrittenInTheMiddleIsRefused) {
  const std::string prefix = tokenize_documents();
  ASSERT_THAT(train_on(prefix, {"train.stop_after_steps=1"}), EndsWithCode(75, ""));
  std::fstream bin(prefix + ".bin", std::ios::in | std::ios::out | std::ios::binary);
  bin.seekp(20'000);
  bin << std::string(10'000, '\1');
  bin.close();
  EXPECT_THAT(train_on(prefix, {}), EndsWithCode(4, "the training files"));
  EXPECT_THAT(train_on(prefix, {}, "new"), EndsWithCode(3, "documents.bin: bytes 0 to"));
}

struct Commands : Data {
  Outcome call_with_full_disk(const Arguments& arguments) {
    Arguments command{"/bin/sh", "-c", "exec \"$0\" \"$@\" > /dev/full",
                      std::string(std::getenv("SY_TEST_BUILD")) + "/switchyard"};
    command.insert(command.end(), arguments.begin(), arguments.end());
    return Process(command, file("full.txt")).finish();
  }
};

TEST_F(Commands, SayWhenTheirAnswerCannotBeWritten) {
  const std::string debug = project("configs/debug.textproto");
  for (const Arguments& arguments :
       std::vector<Arguments>{{"inspect", debug},
                              {"inspect", "--list"},
                              {"tokenize", debug, "--tokenizer", "bytes", "--out", file("tokens")}})
    EXPECT_THAT(call_with_full_disk(arguments), EndsWithCode(7, "No space left")) << arguments[0];
  ASSERT_THAT(train_on(tokenize_documents(), {}), EndsWithCode(0, ""));
  for (const Arguments& arguments : std::vector<Arguments>{
           {"eval", file("run")}, {"generate", file("run"), "--max-tokens", "2"}})
    EXPECT_THAT(call_with_full_disk(arguments), EndsWithCode(7, "No space left")) << arguments[0];

  // From inside, by its bare name, with and without a slash: the run's tokenizer is found.
  const fs::path before = fs::current_path();
  fs::current_path(file("run/checkpoints"));
  for (const char* name : {"step_2", "step_2/", "./step_2"})
    EXPECT_THAT(call({"generate", name, "--max-tokens", "2"}), EndsWithCode(0, "")) << name;
  fs::current_path(before);

  EXPECT_THAT(call({"eval", file("run/config.textproto")}), EndsWithCode(4, "found a file"));
  // Of a length that would take gigabytes all at once.
  EXPECT_THAT(
      call({"generate", file("run"), "--max-tokens", "1", "--prompt", std::string(20'000, 'a')}),
      EndsWithCode(0, ""));
}

TEST_F(Commands, RefuseNumbersThatAreNone) {
  for (const std::string option :
       {"--temperature=nan", "--temperature=inf", "--temperature=-1", "--top-p=nan", "--top-p=1.5",
        "--max-tokens=99999999999999999999", "--max-tokens=-1", "--max-tokens=1e3",
        "--seed=99999999999999999999", "--seed=-1"})
    EXPECT_THAT(call({"generate", file("run"), option}),
                EndsWithCode(2, option.substr(0, option.find('='))))
        << option;
}

}  // namespace
}  // namespace switchyard::testing
