// Mutations of a valid config: whatever comes, the reader throws ConfigError or returns.

#include <fstream>
#include <random>
#include <sstream>

#include <google/protobuf/text_format.h>

#include "core/config/text_reader.h"
#include "tests/core/config/config_files.h"

namespace switchyard::config {
namespace {

constexpr int kRounds = 5000;

std::string debug_config() {
  std::stringstream text;
  text << std::ifstream("configs/debug.textproto").rdbuf();
  return text.str();
}

// One to four edits: a byte changed, a stretch cut, copied elsewhere, or a token of the format put
// in.
std::string mutated(std::string text, std::mt19937& random) {
  static const char* const kTokens[] = {
      "{",   "}",          "<",  "[", "]", ":", "\"",   "-", "\n",  "1e99",    "model", "nan ",
      "0x7", "2147483648", "\\", "#", ",", ";", "\xff", "'", "moe", "SOFTMAX", "/",     "."};
  const auto below = [&](size_t limit) { return random() % limit; };
  for (size_t edits = 1 + below(4); edits > 0; --edits) {
    const size_t at = below(text.size());
    const std::string piece = text.substr(below(text.size()), below(40));
    switch (below(4)) {
      case 0:
        text[at] = static_cast<char>(below(256));
        break;
      case 1:
        text.erase(at, below(40));
        break;
      case 2:
        text.insert(at, piece);
        break;
      default:
        text.insert(at, kTokens[below(std::size(kTokens))]);
    }
    if (text.empty()) text.assign(1, 'x');
  }
  return text;
}

using ReaderFuzz = ConfigFiles;

TEST_F(ReaderFuzz, EndsEveryMutationWithAConfigOrAConfigError) {
  const std::string original = debug_config();
  ASSERT_FALSE(original.empty());
  std::mt19937 random(20240607);
  int loaded = 0;
  for (int round = 0; round < kRounds; ++round) {
    const std::string text = mutated(original, random);
    try {
      load_config_text(text, "fuzz");
      ++loaded;
    } catch (const ConfigError& failure) {
      EXPECT_STRNE(failure.what(), "");
    } catch (const std::exception& failure) {
      ADD_FAILURE() << "round " << round << ": " << failure.what() << "\n" << text;
    }
  }
  EXPECT_GT(loaded, 0);
  EXPECT_LT(loaded, kRounds);
}

// The walk never refuses by accident nor accepts more than Protobuf: where it finds nothing, its
// fields are Protobuf's.
TEST_F(ReaderFuzz, AgreesWithProtobufsParserOnValidTexts) {
  RunConfig ours, protobufs;
  const std::string text = debug_config();
  EXPECT_TRUE(read_text({text, "debug", ""}, ours).problems.empty());
  ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &protobufs));
  EXPECT_EQ(ours.SerializeAsString(), protobufs.SerializeAsString());
}

}  // namespace
}  // namespace switchyard::config
