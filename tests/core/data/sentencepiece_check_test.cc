#include "core/data/sentencepiece_check.h"

#include <cmath>
#include <cstring>
#include <functional>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sentencepiece_trainer.h>

#include "core/base/errors.h"
#include "core/data/sentencepiece_model.pb.h"
#include "core/data/tokenizer.h"
#include "tests/core/data/test_files.h"

namespace switchyard {
namespace {

using testing::HasSubstr;
using namespace testing_data;
using piece_model::Model;

struct Lines final : sentencepiece::SentenceIterator {
  bool done() const override { return at == 200; }
  void Next() override {
    ++at;
    text = fmt::format("wagon {} Ａｂｃ track {}", at, at * at);
  }
  const std::string& value() const override { return text; }
  sentencepiece::util::Status status() const override { return {}; }

  int at = 0;
  std::string text = "wagon track Ａｂｃ";
};

// A model with a table of normalisation rules, made by SentencePiece itself. The message keeps what
// else is in the file.
Model model_with(const std::string& rules_key, const std::string& rules) {
  Lines lines;
  std::string bytes;
  const auto status = sentencepiece::SentencePieceTrainer::Train({{"model_type", "bpe"},
                                                                  {"vocab_size", "80"},
                                                                  {"num_threads", "1"},
                                                                  {"minloglevel", "3"},
                                                                  {rules_key, rules}},
                                                                 &lines, &bytes);
  EXPECT_TRUE(status.ok()) << status.ToString();
  Model model;
  EXPECT_TRUE(model.ParseFromString(bytes));
  return model;
}

// With a few rules, so that the table is small.
const Model& small_model() {
  static const Model model = model_with(
      "normalization_rule_tsv",
      write_file("rules.tsv", "41\t61\n41 42\t62 62\n43\t\n3042\t20 61\nFF21 3042\t63 64 65\n"));
  return model;
}

std::string& charsmap(Model& model) {
  return *model.mutable_normalizer_spec()->mutable_precompiled_charsmap();
}

uint32_t number_at(const std::string& bytes, size_t at) {
  uint32_t number = 0;
  std::memcpy(&number, bytes.data() + at, sizeof number);
  return number;
}

void put(std::string& bytes, size_t at, uint32_t number) {
  std::memcpy(bytes.data() + at, &number, sizeof number);
}

// Whether a model is refused; one that is not must encode.
bool is_refused(const Model& model) {
  try {
    const auto tokenizer = make_sentencepiece_tokenizer(model.SerializeAsString(), "test.model");
    for (const std::string text : {"ABABC", "あＡあ", "wagon 12", "AAAAあ\xFF", "C", ""})
      tokenizer->decode(tokenizer->encode(text));
    return false;
  } catch (const DataError&) {
    return true;
  }
}

std::string refusal(const Model& model) {
  return message_of<DataError>(
      [&] { make_sentencepiece_tokenizer(model.SerializeAsString(), "test.model"); });
}

std::string refusal_of_map(const std::function<void(std::string&)>& change) {
  Model model = small_model();
  change(charsmap(model));
  return refusal(model);
}

TEST(SentencePieceCheck, LetsRealRulesThrough) {
  const Model model = model_with("normalization_rule_name", "nmt_nfkc");
  const auto tokenizer = make_sentencepiece_tokenizer(model.SerializeAsString(), "test.model");
  EXPECT_EQ(tokenizer->encode("ｗａｇｏｎ"), tokenizer->encode("wagon"));
  EXPECT_FALSE(is_refused(small_model()));
}

TEST(SentencePieceCheck, NoChangeToAUnitLeadsOutside) {
  const size_t units = number_at(small_model().normalizer_spec().precompiled_charsmap(), 0) / 4;
  ASSERT_GE(units, 256u);
  int refused = 0;
  for (size_t unit = 0; unit < units; ++unit) {
    for (const uint32_t flip : {0x80000000u, 0x40000000u, 0x7FE00000u, 0x00100000u, 0x00040000u,
                                0x200u, 0x100u, 0x400u}) {
      Model model = small_model();
      const size_t at = 4 + 4 * unit;
      put(charsmap(model), at, number_at(charsmap(model), at) ^ flip);
      refused += is_refused(model) ? 1 : 0;
    }
  }
  EXPECT_GT(refused, 20);
}

TEST(SentencePieceCheck, NamesWhatIsWrongWithATable) {
  const auto with_size = [](uint32_t size) {
    return refusal_of_map([=](std::string& map) { put(map, 0, size); });
  };
  for (const uint32_t size : {0u, 3u, 1026u, 1u << 20, ~0u})
    EXPECT_THAT(with_size(size), HasSubstr(fmt::format("has a trie of {} bytes", size)));
  EXPECT_THAT(refusal_of_map([](std::string& map) { map.resize(3); }),
              HasSubstr("test.model: normalizer_spec.precompiled_charsmap is too short"));
  EXPECT_THAT(refusal_of_map([](std::string& map) { map.back() = 'x'; }),
              HasSubstr("last replacement without its end"));
  EXPECT_THAT(refusal_of_map([](std::string& map) { map[map.size() - 2] = '\xFF'; }),
              HasSubstr("not UTF-8"));
  EXPECT_THAT(refusal_of_map([](std::string& map) { put(map, 4, 0x7FFFFC00); }),
              HasSubstr("leads to unit"));
  Model denormalizer = small_model();
  denormalizer.mutable_denormalizer_spec()->set_precompiled_charsmap("abcd");
  EXPECT_THAT(refusal(denormalizer), HasSubstr("denormalizer_spec.precompiled_charsmap"));
}

// A trie of hand-made units: nodes at 256, 512, ..., each the child of the one before by 'a'.
std::string chain_of_rules(size_t rules, bool closes) {
  constexpr uint32_t kLeaf = 0x100, kValue = 0x80000000;
  const size_t units = 256 * (rules + 2);
  std::string map(4 + 4 * units, '\0');
  put(map, 0, static_cast<uint32_t>(4 * units));
  for (size_t unit = 1; unit < units; ++unit) put(map, 4 + 4 * unit, kValue);
  put(map, 4, 256 << 10);
  for (size_t rule = 1; rule <= rules; ++rule) {
    const size_t unit = 256 * rule + 'a', child = closes && rule == rules ? 256 : 256 * (rule + 1);
    put(map, 4 + 4 * unit, static_cast<uint32_t>((unit ^ child) << 10) | kLeaf | 'a');
  }
  return map + "x" + '\0';
}

TEST(SentencePieceCheck, RefusesMoreRulesOnOnePathThanTheLibraryHolds) {
  const auto with = [](size_t nodes, bool closes) {
    Model model = small_model();
    charsmap(model) = chain_of_rules(nodes, closes);
    return model;
  };
  EXPECT_FALSE(is_refused(with(32, false)));
  EXPECT_THAT(refusal(with(33, false)), HasSubstr("more than 32 rules that begin one another"));
  EXPECT_THAT(refusal(with(3, true)), HasSubstr("a rule of more than 1024 bytes"));
}

TEST(SentencePieceCheck, RefusesPiecesThatMakeNoVocabulary) {
  const auto after = [](const std::function<void(Model&)>& change) {
    Model model = small_model();
    change(model);
    return refusal(model);
  };
  EXPECT_THAT(after([](Model& m) { m.clear_pieces(); }), HasSubstr("test.model: "));
  EXPECT_THAT(after([](Model& m) { m.mutable_pieces()->DeleteSubrange(0, 1); }), HasSubstr("unk"));
  EXPECT_THAT(after([](Model& m) { *m.add_pieces() = m.pieces(9); }), HasSubstr("already defined"));
  EXPECT_THAT(after([](Model& m) { m.mutable_pieces(9)->clear_piece(); }), HasSubstr("empty"));
  EXPECT_THAT(after([](Model& m) { m.mutable_pieces(9)->set_score(std::nanf("")); }),
              HasSubstr("piece 9 has the score nan"));
  EXPECT_THAT(after([](Model& m) { m.mutable_pieces(9)->set_piece(std::string("a\0b", 3)); }),
              HasSubstr("piece 9 has a NUL byte"));
}

TEST(SentencePieceCheck, RefusesMoreNestedPiecesThanTheLibraryHolds) {
  const auto with = [](size_t pieces) {
    Model model = small_model();
    for (size_t i = 1; i <= pieces; ++i) {
      model.add_pieces()->set_piece(std::string(i, 'q'));
      model.mutable_pieces()->rbegin()->set_type(4);
    }
    return model;
  };
  const auto tokenizer = make_sentencepiece_tokenizer(with(64).SerializeAsString(), "test.model");
  EXPECT_LE(tokenizer->encode(std::string(64, 'q')).size(), 2u);
  EXPECT_THAT(refusal(with(65)), HasSubstr("more than 64 user-defined pieces"));
}

}  // namespace
}  // namespace switchyard
