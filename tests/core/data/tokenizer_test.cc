#include "core/data/tokenizer.h"

#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/errors.h"
#include "core/data/tokenizer_training.h"
#include "core/io/bytes.h"
#include "core/io/file_system.h"
#include "tests/core/data/test_files.h"

namespace switchyard {
namespace {

using testing::HasSubstr;
using namespace testing_data;

// Lines of made-up words in four scripts; enough for a small vocabulary.
std::vector<std::string> training_lines() {
  const std::vector<std::string> words = {"switch", "yard", "wagon", "track", "маршрут", "состав",
                                          "путь",   "列車", "線路",  "駅",    "기차",    "선로",
                                          "12",     "2026", ",",     "."};
  std::mt19937 random(5);
  std::vector<std::string> lines(600);
  for (auto& line : lines)
    for (int i = 0; i < 12; ++i) line += words[random() % words.size()] + (random() % 4 ? " " : "");
  return lines;
}

const std::string& trained_model() {
  static const std::string model = train_sentencepiece(training_lines(), {.vocab_size = 400});
  return model;
}

std::unique_ptr<Tokenizer> trained() {
  return make_sentencepiece_tokenizer(trained_model(), "test");
}

std::vector<std::string> awkward_texts() {
  std::vector<std::string> texts = {"",
                                    " ",
                                    "  two  spaces  ",
                                    "\n\n",
                                    "a\r\nb\tc",
                                    "wagon 12 маршрут 列車 기차",
                                    "unseen: ß ç 漢字 ا \xF0\x9F\x99\x82",
                                    std::string("nul\0nul", 7),
                                    "\xEF\xBB\xBFmark",
                                    "\xFF\xFE bad \xED\xA0\x80\xC3",
                                    "the mark \xE2\x96\x81 itself",
                                    "<s> </s> <unk> <0x41>"};
  std::mt19937 random(9);
  for (int i = 0; i < 200; ++i) {
    std::string bytes(random() % 40, '\0');
    for (char& c : bytes) c = static_cast<char>(random());
    texts.push_back(bytes);
  }
  return texts;
}

TEST(Tokenizer, RoundTripsAnyBytes) {
  const auto bytes = load_tokenizer("bytes"), pieces = trained();
  for (const Tokenizer* tokenizer : {bytes.get(), pieces.get()})
    for (const std::string& text : awkward_texts()) {
      const auto tokens = tokenizer->encode(text);
      EXPECT_EQ(tokenizer->decode(tokens), text);
      for (const int32_t token : tokens) {
        EXPECT_LT(token, tokenizer->vocab_size());
        EXPECT_NE(token, tokenizer->end_of_document());
      }
    }
}

TEST(Tokenizer, DecodesTheEndOfADocumentToNothing) {
  const auto bytes = load_tokenizer("bytes"), pieces = trained();
  for (const Tokenizer* tokenizer : {bytes.get(), pieces.get()})
    EXPECT_EQ(tokenizer->decode(std::vector{tokenizer->end_of_document()}), "");
}

TEST(ByteTokenizer, HasAVocabularyThatEightRanksCanShare) {
  const auto tokenizer = load_tokenizer("bytes");
  EXPECT_EQ(tokenizer->vocab_size(), 264);
  EXPECT_EQ(tokenizer->end_of_document(), 256);
}

TEST(SentencePiece, LearnsTheWordsItWasTrainedOn) {
  const auto tokenizer = trained();
  EXPECT_EQ(tokenizer->vocab_size(), 400);
  const std::string text = "switch wagon маршрут 列車 기차";
  EXPECT_LT(tokenizer->encode(text).size(), 12u);
}

TEST(SentencePiece, TrainsTheSameModelFromTheSameLines) {
  EXPECT_TRUE(train_sentencepiece(training_lines(), {.vocab_size = 400}) == trained_model());
}

TEST(SentencePiece, RefusesTooLittleTextByName) {
  EXPECT_THAT(message_of<DataError>([] { train_sentencepiece({"a b"}, {.vocab_size = 4000}); }),
              HasSubstr("vocabulary of 4000 on 1 lines"));
}

// Also a model that adds a space in front: those lose invalid bytes, but never crash.
TEST(SentencePiece, EncodesAnyBytesWithoutBytePieces) {
  const auto model =
      train_sentencepiece(training_lines(), {.vocab_size = 140, .byte_fallback = false});
  const auto tokenizer = make_sentencepiece_tokenizer(model, "test");
  for (const std::string& text : awkward_texts())
    EXPECT_NO_THROW(tokenizer->decode(tokenizer->encode(text)));
  EXPECT_EQ(tokenizer->decode(tokenizer->encode("wagon track")), "wagon track");
}

TEST(SentencePiece, RefusesATruncatedModel) {
  const std::string& model = trained_model();
  for (size_t size : {size_t{0}, size_t{1}, size_t{100}, model.size() / 2, model.size() - 1})
    EXPECT_THAT(message_of<DataError>(
                    [&] { make_sentencepiece_tokenizer(model.substr(0, size), "cut.model"); }),
                HasSubstr("cut.model: not a usable SentencePiece model"))
        << size;
}

TEST(SentencePiece, SurvivesDamagedModels) {
  std::mt19937 random(3);
  for (int round = 0; round < 300; ++round) {
    std::string model = trained_model();
    for (int i = 0; i <= round % 3; ++i)
      model[random() % model.size()] = static_cast<char>(random());
    try {
      const auto tokenizer = make_sentencepiece_tokenizer(model, "damaged");
      tokenizer->decode(tokenizer->encode("wagon 12 маршрут"));
    } catch (const DataError&) {
    }
  }
}

TEST(LoadTokenizer, ReadsAModelFileAndRefusesOtherSpecs) {
  const std::string path = test_folder() + "vocabulary.model";
  write_file_atomically(FileSystem(), path, as_byte_span(trained_model()));
  EXPECT_EQ(load_tokenizer(path)->fingerprint(), trained()->fingerprint());
  EXPECT_NE(load_tokenizer(path)->fingerprint(), load_tokenizer("bytes")->fingerprint());
  EXPECT_THAT(message_of<DataError>([] { load_tokenizer("words"); }), HasSubstr("\"words\""));
  EXPECT_THAT(message_of<DataError>([] { load_tokenizer("/none.model"); }),
              HasSubstr("/none.model"));
}

TEST(SampleLines, TakesAShareOfEveryFileAndCutsLongLines) {
  std::string text;
  for (int i = 0; i < 2000; ++i) text += fmt::format("line {}\nmore\n\n", i);
  const auto path = write_file("text", text),
             long_line = write_file("long", std::string(9000, 'x'));
  const auto all = sample_lines({path, long_line}, TextFormat::kParagraphs, 1 << 30);
  ASSERT_EQ(all.size(), 4000u + 3);
  EXPECT_EQ(all[1], "more");
  EXPECT_EQ(all.back().size(), 9000u - 2 * 4096);
  const auto some = sample_lines({path}, TextFormat::kParagraphs, file_size(path) / 4);
  EXPECT_NEAR(static_cast<double>(some.size()), 1000, 150);
  EXPECT_EQ(sample_lines({path}, TextFormat::kParagraphs, file_size(path) / 4), some);
}

}  // namespace
}  // namespace switchyard
