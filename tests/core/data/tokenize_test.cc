#include "core/data/tokenize.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/errors.h"
#include "core/data/token_file.h"
#include "tests/core/data/test_files.h"

namespace switchyard {
namespace {

using testing::HasSubstr;
using namespace testing_data;

// Two files of several batches each; documents say who they are.
std::vector<std::string> two_files() {
  std::vector<std::string> paths;
  for (const std::string name : {"a.txt", "b.jsonl"}) {
    std::string text;
    for (int i = 0; i < 20'000; ++i) {
      const std::string document = name + " document number " + std::to_string(i);
      text += name == "a.txt" ? document + "\n\n" : "{\"text\":\"" + document + "\"}\n";
    }
    paths.push_back(write_file(name, text));
  }
  return paths;
}

std::string decode_document(const TokenFile& file, const Tokenizer& tokenizer, int64_t document) {
  const int64_t begin = file.document_begin(document), end = file.document_begin(document + 1);
  std::vector<int32_t> tokens(static_cast<size_t>(end - begin));
  file.read(begin, tokens);
  EXPECT_EQ(tokens.back(), tokenizer.end_of_document());
  return tokenizer.decode(tokens);
}

TEST(Tokenize, KeepsDocumentsInOrderWithAnEndEach) {
  const auto tokenizer = load_tokenizer("bytes");
  const std::string out = test_folder() + "new/folder/out";
  int64_t last = 0, total = 0;
  const auto result = tokenize({.inputs = two_files(), .out = out, .threads = 3}, *tokenizer,
                               [&](int64_t done, int64_t of) {
                                 EXPECT_GE(done, last);
                                 last = done;
                                 total = of;
                               });
  EXPECT_EQ(last, total);
  EXPECT_EQ(result.text.documents, 40'000);
  EXPECT_EQ(result.tokens, result.text.bytes + 40'000);
  const auto file = TokenFile::open(out, tokenizer->vocab_size());
  EXPECT_EQ(file->num_documents(), 40'000);
  EXPECT_EQ(file->num_tokens(), result.tokens);
  for (const int64_t i : {0, 1, 7777, 19'999})
    EXPECT_EQ(decode_document(*file, *tokenizer, i), "a.txt document number " + std::to_string(i));
  EXPECT_EQ(decode_document(*file, *tokenizer, 39'999), "b.jsonl document number 19999");
}

TEST(Tokenize, WritesTheSameBytesForAnyThreadCount) {
  const auto tokenizer = load_tokenizer("bytes");
  const auto inputs = two_files();
  std::string bin, idx;
  for (const int threads : {1, 2, 5}) {
    const std::string out = test_folder() + "out" + std::to_string(threads);
    tokenize({.inputs = inputs, .out = out, .threads = threads}, *tokenizer, {});
    if (threads == 1) bin = read_file(out + ".bin"), idx = read_file(out + ".idx");
    EXPECT_TRUE(read_file(out + ".bin") == bin);
    EXPECT_TRUE(read_file(out + ".idx") == idx);
  }
}

TEST(Tokenize, HoldsOutAShareOfTheDocumentsByTheirOwnText) {
  const auto tokenizer = load_tokenizer("bytes");
  const auto inputs = two_files();
  const std::string out = test_folder() + "split", other = test_folder() + "one";
  const auto result =
      tokenize({.inputs = inputs, .out = out, .holdout = 0.05, .threads = 3}, *tokenizer, {});
  EXPECT_NEAR(static_cast<double>(result.held_out_documents), 2000, 150);
  const auto kept = TokenFile::open(out, tokenizer->vocab_size());
  const auto held_out = TokenFile::open(out + "_holdout", tokenizer->vocab_size());
  EXPECT_EQ(held_out->num_documents(), result.held_out_documents);
  EXPECT_EQ(held_out->num_tokens(), result.held_out_tokens);
  EXPECT_EQ(kept->num_documents(), 40'000 - result.held_out_documents);
  EXPECT_EQ(kept->num_tokens(), result.tokens - result.held_out_tokens);
  // The second file alone, twice: the same documents, each time.
  tokenize({.inputs = {inputs[1], inputs[1]}, .out = other, .holdout = 0.05}, *tokenizer, {});
  const auto again = TokenFile::open(other + "_holdout", tokenizer->vocab_size());
  ASSERT_EQ(again->num_documents() % 2, 0);
  const int64_t once = again->num_documents() / 2;
  const int64_t first = held_out->num_documents() - once;
  for (int64_t i = 0; i < once; ++i) {
    const std::string document = decode_document(*held_out, *tokenizer, first + i);
    EXPECT_EQ(decode_document(*again, *tokenizer, i), document);
    EXPECT_EQ(decode_document(*again, *tokenizer, once + i), document);
  }
}

TEST(Tokenize, RefusesAHoldoutThatLeavesOneSideEmpty) {
  const auto tokenizer = load_tokenizer("bytes");
  const std::string single = write_file("single.txt", "one document"), out = test_folder() + "none";
  EXPECT_THAT(message_of<DataError>([&] {
                tokenize({.inputs = {single}, .out = out, .holdout = 0.01}, *tokenizer, {});
              }),
              HasSubstr("a holdout of 0.01 leaves"));
  EXPECT_FALSE(std::filesystem::exists(out + ".bin"));
}

TEST(Tokenize, RefusesInputsWithoutADocumentAndLeavesNoOutput) {
  const auto tokenizer = load_tokenizer("bytes");
  const std::string empty = write_file("empty.txt", "\n\n"), out = test_folder() + "out";
  EXPECT_THAT(
      message_of<DataError>([&] { tokenize({.inputs = {empty}, .out = out}, *tokenizer, {}); }),
      HasSubstr("no document in 1 input files"));
  EXPECT_FALSE(std::filesystem::exists(out + ".bin"));
}

// Fails on one document; the job must end with that error and without output.
class FailingTokenizer final : public Tokenizer {
 public:
  int32_t vocab_size() const override { return 10; }
  int32_t end_of_document() const override { return 1; }
  std::vector<int32_t> encode(std::string_view text) const override {
    if (text.ends_with("number 15000")) throw DataError("cannot encode this one");
    return {2};
  }
  std::string decode(std::span<const int32_t>) const override { return ""; }
  std::string name() const override { return "failing"; }
  uint64_t fingerprint() const override { return 0; }
};

TEST(Tokenize, PassesOnTheErrorOfAThread) {
  const std::string out = test_folder() + "out";
  EXPECT_EQ(message_of<DataError>([&] {
              tokenize({.inputs = two_files(), .out = out, .threads = 2}, FailingTokenizer(), {});
            }),
            "cannot encode this one");
  EXPECT_FALSE(std::filesystem::exists(out + ".bin"));
}

}  // namespace
}  // namespace switchyard
