#include "core/data/token_file.h"

#include <cstring>
#include <filesystem>
#include <functional>
#include <limits>
#include <random>

#include <sys/wait.h>
#include <unistd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/errors.h"
#include "core/data/token_file_writer.h"
#include "tests/core/data/test_files.h"

namespace switchyard {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using namespace testing_data;
using Documents = std::vector<std::vector<int32_t>>;

const Documents kDocuments = {{}, {1, 2, 3}, {}, {}, {4}, {5, 6, 7, 8, 9}, {}};

std::string write_tokens(const Documents& documents, int64_t vocab) {
  const std::string prefix = test_folder() + "tokens";
  TokenFileWriter writer(prefix, vocab);
  for (const auto& document : documents) writer.add_document(document);
  writer.finish();
  return prefix;
}

std::vector<int32_t> read_tokens(const TokenFile& file, int64_t first, int64_t count) {
  std::vector<int32_t> tokens(static_cast<size_t>(count));
  file.read(first, tokens);
  return tokens;
}

template <typename T>
void put(std::string& bytes, size_t offset, T value) {
  std::memcpy(bytes.data() + offset, &value, sizeof value);
}

// Offsets within the index of kDocuments: 7 sequences, 8 boundaries.
constexpr size_t kLengths = 34, kPointers = kLengths + 4 * 7, kBounds = kPointers + 8 * 7;
constexpr size_t kIndexSize = kBounds + 8 * 8;

// The error after `change` was made to a good index.
std::string refusal(const std::function<void(std::string&)>& change) {
  const std::string prefix = write_tokens(kDocuments, 10);
  std::string index = read_file(prefix + ".idx");
  EXPECT_EQ(index.size(), kIndexSize);
  change(index);
  write_file("tokens.idx", index);
  return message_of<DataError>([&] { TokenFile::open(prefix, 10); });
}

TEST(TokenFile, ReadsBackWhatWasWrittenInBothTokenSizes) {
  for (const int64_t vocab : {int64_t{65499}, int64_t{65500}}) {
    const auto file = TokenFile::open(write_tokens(kDocuments, vocab), vocab);
    EXPECT_EQ(file->type(), vocab < 65500 ? TokenType::kUInt16 : TokenType::kInt32);
    EXPECT_EQ(file->num_documents(), 7);
    EXPECT_EQ(file->num_tokens(), 9);
    EXPECT_THAT(read_tokens(*file, 0, 9), ElementsAre(1, 2, 3, 4, 5, 6, 7, 8, 9));
    EXPECT_THAT(read_tokens(*file, 2, 3), ElementsAre(3, 4, 5));
    EXPECT_THAT(read_tokens(*file, 9, 0), ElementsAre());
  }
}

TEST(TokenFile, FindsTheDocumentOfEveryTokenPastEmptyOnes) {
  const auto file = TokenFile::open(write_tokens(kDocuments, 10), 10);
  const std::vector<int64_t> expected = {1, 1, 1, 4, 5, 5, 5, 5, 5};
  for (int64_t token = 0; token < 9; ++token)
    EXPECT_EQ(file->document_at(token), expected[static_cast<size_t>(token)]) << token;
  EXPECT_EQ(file->document_begin(5), 4);
  EXPECT_EQ(file->document_begin(7), 9);
}

TEST(TokenFile, NumbersSegmentsFromTheFirstTokenAskedFor) {
  const auto file = TokenFile::open(write_tokens(kDocuments, 10), 10);
  std::vector<int32_t> numbers(7);
  file->segments(2, numbers);
  EXPECT_THAT(numbers, ElementsAre(0, 1, 2, 2, 2, 2, 2));
}

TEST(TokenFile, HoldsNoDocumentsOrOnlyEmptyOnes) {
  EXPECT_EQ(TokenFile::open(write_tokens({}, 10), 10)->num_tokens(), 0);
  EXPECT_EQ(TokenFile::open(write_tokens({{}, {}}, 10), 10)->num_documents(), 2);
}

TEST(TokenFile, NamesDocumentAndOffsetOfAnIdOutsideTheVocabulary) {
  const auto file = TokenFile::open(write_tokens(kDocuments, 10), 7);
  EXPECT_THAT(read_tokens(*file, 0, 6), ElementsAre(1, 2, 3, 4, 5, 6));
  const std::string message = message_of<DataError>([&] { read_tokens(*file, 3, 5); });
  EXPECT_THAT(message, HasSubstr("document 5, offset 2: token id 7"));
  EXPECT_THAT(message, HasSubstr("vocabulary of 7"));
}

TEST(TokenFile, NamesTheFileThatIsMissing) {
  const std::string prefix = test_folder() + "missing";
  for (const char* ending : {".bin", ".idx"}) std::filesystem::remove(prefix + ending);
  EXPECT_THAT(message_of<DataError>([&] { TokenFile::open(prefix, 10); }),
              HasSubstr(prefix + ".bin: there is no such file"));
  write_file("missing.bin", "");
  EXPECT_THAT(message_of<DataError>([&] { TokenFile::open(prefix, 10); }),
              HasSubstr(prefix + ".idx: there is no such file"));
}

TEST(TokenFile, RefusesAForeignHeader) {
  EXPECT_THAT(refusal([](auto& index) { index[0] = 'X'; }), HasSubstr("expected MMIDIDX"));
  EXPECT_THAT(refusal([](auto& index) { index.replace(0, 8, "TNTIDX\0\0", 8); }),
              HasSubstr("fairseq"));
  EXPECT_THAT(refusal([](auto& index) { put(index, 9, uint64_t{2}); }),
              HasSubstr("version at offset 9: expected 1, got 2"));
  EXPECT_THAT(refusal([](auto& index) { put(index, 17, uint8_t{7}); }),
              HasSubstr("token type at offset 17: expected 1 (uint8)"));
}

TEST(TokenFile, RefusesAnIndexTruncatedInAnySection) {
  const auto cut = [](size_t size) { return refusal([size](auto& index) { index.resize(size); }); };
  EXPECT_THAT(cut(0), HasSubstr("header at offset 0"));
  EXPECT_THAT(cut(33), HasSubstr("header: document count at offset 26"));
  EXPECT_THAT(cut(kPointers - 1), HasSubstr("lengths section at offset 34"));
  EXPECT_THAT(cut(kBounds - 1), HasSubstr("pointers section"));
  EXPECT_THAT(cut(kIndexSize - 1), HasSubstr("documents section"));
}

TEST(TokenFile, RefusesTrailingBytesButAcceptsAModesSection) {
  EXPECT_THAT(refusal([](auto& index) { index += 'x'; }), HasSubstr("expected 182 bytes"));
  const std::string prefix = write_tokens(kDocuments, 10);
  write_file("tokens.idx", read_file(prefix + ".idx") + std::string(7, '\0'));
  EXPECT_EQ(TokenFile::open(prefix, 10)->num_tokens(), 9);
}

TEST(TokenFile, RefusesHugeCountsAgainstTheFileSize) {
  for (const size_t field : {18, 26})
    for (const uint64_t count :
         {uint64_t{1} << 60, ~uint64_t{0}, (uint64_t{1} << 62) + 7, uint64_t{170}})
      EXPECT_THAT(refusal([=](auto& index) { put(index, field, count); }), HasSubstr("bytes"));
  EXPECT_THAT(refusal([](auto& index) { put(index, 26, uint64_t{0}); }), HasSubstr("at least 1"));
}

TEST(TokenFile, RefusesLengthsAndPointersThatDoNotFollowOneAnother) {
  EXPECT_THAT(refusal([](auto& index) { put(index, kLengths + 4, int32_t{-1}); }),
              HasSubstr("sequence 1 (offset 38) has -1 tokens"));
  EXPECT_THAT(refusal([](auto& index) { put(index, kPointers + 8 * 5, int64_t{2}); }),
              HasSubstr("sequence 5 (offset 102) starts at byte 2, expected 8"));
  EXPECT_THAT(refusal([](auto& index) { put(index, kLengths + 4 * 6, int32_t{1}); }),
              HasSubstr("sequence 6 ends at byte 20 of the .bin, which has 18"));
}

TEST(TokenFile, RefusesDocumentBoundariesOutOfOrder) {
  EXPECT_THAT(refusal([](auto& index) { put(index, kBounds, int64_t{1}); }),
              HasSubstr("boundary 0"));
  EXPECT_THAT(refusal([](auto& index) { put(index, kBounds + 8 * 4, int64_t{2}); }),
              HasSubstr("boundary 4"));
  EXPECT_THAT(refusal([](auto& index) { put(index, kBounds + 8 * 7, int64_t{6}); }),
              HasSubstr("boundary 7"));
  EXPECT_THAT(refusal([](auto& index) { put(index, kBounds + 8 * 3, int64_t{1} << 60); }),
              HasSubstr("boundary 3"));
}

TEST(TokenFile, RefusesAShorterBinAndIgnoresTheTailOfALongerOne) {
  const std::string prefix = write_tokens(kDocuments, 10);
  const std::string bin = read_file(prefix + ".bin");
  write_file("tokens.bin", bin.substr(0, bin.size() - 1));
  EXPECT_THAT(message_of<DataError>([&] { TokenFile::open(prefix, 10); }),
              HasSubstr("which has 17 bytes"));
  write_file("tokens.bin", bin + "xx");
  EXPECT_EQ(TokenFile::open(prefix, 10)->num_tokens(), 9);
}

TEST(TokenFile, ReportsABinThatShrinksWhileItIsOpen) {
  const std::string prefix = write_tokens(kDocuments, 10);
  const auto file = TokenFile::open(prefix, 10);
  std::filesystem::resize_file(prefix + ".bin", 6);
  EXPECT_THAT(read_tokens(*file, 0, 3), ElementsAre(1, 2, 3));
  EXPECT_THAT(message_of<DataError>([&] { read_tokens(*file, 2, 4); }),
              HasSubstr("ends at byte 6, but the index describes 18 bytes"));
}

TEST(TokenFile, KnowsItsDocumentsWhateverHappensToTheIndexLater) {
  const std::string prefix = write_tokens(kDocuments, 10);
  const auto file = TokenFile::open(prefix, 10);
  std::vector<int32_t> numbers(9);
  const auto expect_as_it_was = [&] {
    file->segments(0, numbers);
    EXPECT_THAT(numbers, ElementsAre(0, 0, 0, 1, 2, 2, 2, 2, 2));
    EXPECT_EQ(file->document_begin(5), 4);
  };
  std::filesystem::resize_file(prefix + ".idx", 0);
  expect_as_it_was();
  std::ofstream(prefix + ".idx") << std::string(kIndexSize, '\xFF');
  expect_as_it_was();
}

TEST(TokenIndex, CountsTokensBeyond32Bits) {
  const int32_t length = std::numeric_limits<int32_t>::max();
  constexpr int64_t kSequences = 9;
  std::string index(34 + 4 * kSequences + 8 * kSequences + 8 * 7, '\0');
  index.replace(0, kTokenIndexMagic.size(), kTokenIndexMagic);
  put(index, 9, uint64_t{1});
  put(index, 17, TokenType::kUInt8);
  put(index, 18, kSequences);
  put(index, 26, uint64_t{7});
  for (int64_t i = 0; i < kSequences; ++i) {
    put(index, 34 + 4 * static_cast<size_t>(i), length);
    put(index, 34 + 4 * kSequences + 8 * static_cast<size_t>(i), i * length);
  }
  const std::vector<int64_t> first_sequences = {0, 2, 3, 3, 7, 9, 9};
  for (size_t i = 0; i < 7; ++i) put(index, 34 + 12 * kSequences + 8 * i, first_sequences[i]);
  const TokenIndex read(write_file("large.idx", index), kSequences * length);
  for (size_t i = 0; i < 7; ++i)
    EXPECT_EQ(read.document_begin(static_cast<int64_t>(i)), first_sequences[i] * length) << i;
}

// Any damaged index is either refused or still describes only bytes that exist.
TEST(TokenFile, SurvivesAnyDamageToTheIndex) {
  const std::string prefix = write_tokens(kDocuments, 10), good = read_file(prefix + ".idx");
  std::mt19937 random(1);
  int refused = 0;
  for (int round = 0; round < 500; ++round) {
    std::string index = good;
    for (int change = 0; change <= round % 3; ++change)
      index[random() % index.size()] = static_cast<char>(random());
    if (round % 5 == 0) index.resize(random() % index.size());
    write_file("tokens.idx", index);
    try {
      const auto file = TokenFile::open(prefix, 10);
      read_tokens(*file, 0, file->num_tokens());
      std::vector<int32_t> numbers(static_cast<size_t>(file->num_tokens()));
      file->segments(0, numbers);
    } catch (const DataError&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, 250);
}

// Of 300,000 tokens, of a vocabulary that is made of bytes; with a meta file.
std::string write_large() {
  const std::string prefix = test_folder() + "large";
  TokenFileWriter writer(prefix, 264);
  for (int i = 0; i < 300; ++i) writer.add_document(std::vector<int32_t>(1000, i % 256));
  writer.finish(make_byte_tokenizer().get());
  return prefix;
}

void overwrite(const std::string& path, int64_t offset, size_t size) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(offset);
  file << std::string(size, '\0');
}

TEST(TokenFile, KnowsWhoMadeIt) {
  const auto file = TokenFile::open(write_large(), 264);
  ASSERT_TRUE(file->meta());
  EXPECT_EQ(file->meta()->tokenizer, "bytes");
  EXPECT_EQ(file->meta()->tokenizer_fingerprint, make_byte_tokenizer()->fingerprint());
  EXPECT_EQ(file->meta()->bin_crc32c.size(), 3u);
  EXPECT_THAT(read_tokens(*file, 0, file->num_tokens()), testing::Contains(255));
  write_tokens(kDocuments, 10);
  EXPECT_FALSE(TokenFile::open(test_folder() + "tokens", 10)->meta());
}

TEST(TokenFile, ANewFileOfUnknownOriginReplacesTheMetaFileToo) {
  const std::string prefix = write_large();
  TokenFileWriter(prefix, 10).finish();
  EXPECT_FALSE(TokenFile::open(prefix, 10)->meta());
}

TEST(TokenFile, RefusesABlockThatWasOverwritten) {
  const std::string prefix = write_large();
  overwrite(prefix + ".bin", 250'000, 100'000);
  const auto file = TokenFile::open(prefix, 264);
  const auto refusal_at = [&](int64_t token) {
    return message_of<DataError>([&] { read_tokens(*file, token, 10); });
  };
  EXPECT_THAT(refusal_at(131'070), HasSubstr("large.bin: bytes 0 to 262143 are not those"));
  EXPECT_THAT(refusal_at(140'000), HasSubstr("bytes 262144 to 524287"));
  EXPECT_THAT(read_tokens(*file, 299'999, 1), ElementsAre(299 % 256));
}

TEST(TokenFile, RefusesFilesThatAreNotThoseOfTheMetaFile) {
  const auto open = [](const std::string& prefix) {
    return message_of<DataError>([&] { TokenFile::open(prefix, 264); });
  };
  std::string prefix = write_large();
  std::filesystem::resize_file(prefix + ".bin", 600'002);
  EXPECT_THAT(open(prefix), HasSubstr("its size is 600002, but was 600000 when it was written"));
  prefix = write_large();
  // One document less, and a longer one before it: a sound index, but another.
  TokenFileWriter other(test_folder() + "other", 264);
  other.add_document(std::vector<int32_t>(2000, 0));
  for (int i = 2; i < 300; ++i) other.add_document(std::vector<int32_t>(1000, 0));
  other.finish();
  std::filesystem::rename(test_folder() + "other.idx", prefix + ".idx");
  EXPECT_THAT(open(prefix), HasSubstr("large.idx: its checksum is"));
}

TEST(TokenFile, RefusesADamagedMetaFile) {
  const std::string prefix = write_large(), good = read_file(prefix + ".meta.json");
  for (const auto& [from, to] : std::vector<std::pair<std::string, std::string>>{
           {"{", "["},
           {"\"version\": 1", "\"version\": 2"},
           {"\"tokenizer\": \"bytes\"", "\"tokenizer\": 3"},
           {"\"bin_bytes\": 600000", "\"bin_bytes\": 18446744073709551615"},
           {"\"bin_bytes\": 600000", "\"bin_bytes\": 9223372036854775807"},
           {"\"block_bytes\": 262144", "\"block_bytes\": 0"},
           {"\"idx_crc32c\": \"", "\"idx_crc32c\": \"x"},
           {"\"bin_crc32c\": \"", "\"bin_crc32c\": \"00000000"}}) {
    std::string json = good;
    ASSERT_NE(json.find(from), std::string::npos) << from;
    write_file("large.meta.json", json.replace(json.find(from), from.size(), to));
    EXPECT_THAT(message_of<DataError>([&] { TokenFile::open(prefix, 264); }),
                HasSubstr("large.meta.json"))
        << to;
  }
}

// The model's path holds from wherever both are moved to together, and from any folder.
TEST(TokenFileMeta, NamesTheModelAsSeenFromTheTokenFile) {
  const std::string folder = std::filesystem::canonical(test_folder()).string();
  std::filesystem::create_directories(folder + "/tokens");
  TokenFileMeta meta;
  meta.tokenizer = folder + "/my.model";
  meta.vocab_size = meta.block_bytes = 1;
  const auto json = to_json(meta, folder + "/tokens/de");
  EXPECT_THAT(json, HasSubstr("\"../my.model\""));
  write_file("tokens/de.meta.json", json);
  EXPECT_EQ(read_token_file_meta(folder + "/tokens/de"), meta);
  std::filesystem::remove_all(folder + "/moved");
  std::filesystem::rename(folder + "/tokens", folder + "/moved");
  EXPECT_EQ(read_token_file_meta(folder + "/moved/de"), meta);
  const std::string relative = std::filesystem::relative(folder + "/moved/de").string();
  EXPECT_EQ(read_token_file_meta(relative)->tokenizer,
            std::filesystem::relative(folder + "/my.model").string());
}

TEST(TokenFile, FingerprintSees100KilobytesInTheMiddle) {
  std::string prefix = test_folder() + "tokens";
  TokenFileWriter writer(prefix, 264);
  for (int i = 0; i < 12'000; ++i) writer.add_document(std::vector<int32_t>(1000, i % 255 + 1));
  writer.finish();
  const auto print = [&] { return TokenFile::open(prefix, 264)->fingerprint(); };
  const uint64_t before = print();
  for (const int64_t offset : {100'000, 7'654'321, 12'000'001, 23'800'000}) {
    overwrite(prefix + ".bin", offset, 100'000);
    EXPECT_NE(print(), before) << offset;
  }
}

TEST(TokenFile, FingerprintFollowsTokensAndDocumentBounds) {
  const auto print = [](const Documents& documents) {
    return TokenFile::open(write_tokens(documents, 10), 10)->fingerprint();
  };
  const uint64_t first = print({{1, 2}, {3}});
  EXPECT_EQ(print({{1, 2}, {3}}), first);
  EXPECT_NE(print({{1, 2}, {4}}), first);
  EXPECT_NE(print({{1, 2, 3}}), first);
}

TEST(TokenFileWriter, LeavesNothingBehindUnlessFinished) {
  const std::string folder = test_folder();
  { TokenFileWriter(folder + "a", 10).add_document(std::vector<int32_t>{1}); }
  EXPECT_TRUE(std::filesystem::is_empty(folder));
}

TEST(TokenFileWriter, RemovesWhatAKilledWriterLeft) {
  const pid_t child = fork();
  if (child == 0) _exit(0);
  waitpid(child, nullptr, 0);
  const auto gone = [&](const char* name) { return fmt::format("{}.tmp-{}", name, child); };
  std::vector<std::string> kept;
  for (const std::string& name :
       {fmt::format("mine.bin.tmp-{}", getppid()), gone("other.bin"), gone("mine.bin") + "x",
        gone("mine.txt"), std::string("mine.bin.tmp-")})
    kept.push_back(write_file(name, "x"));
  std::vector<std::string> removed;
  for (const char* name : {"mine.bin", "mine.idx", "mine.meta.json"})
    removed.push_back(write_file(gone(name), "x"));
  TokenFileWriter(test_folder() + "mine", 10).finish();
  for (const std::string& path : kept) EXPECT_TRUE(std::filesystem::exists(path)) << path;
  for (const std::string& path : removed) EXPECT_FALSE(std::filesystem::exists(path)) << path;
}

TEST(TokenFileWriter, LeavesFoldersThatHaveItsNamesAsTheyAre) {
  for (const std::string suffix : {".bin", ".idx", ".meta.json"}) {
    const std::string name = suffix.substr(1), old = suffix == ".bin" ? ".idx" : ".bin";
    const std::string prefix = test_folder() + name;
    const std::filesystem::path inside = prefix + suffix + "/precious";
    const auto expect_all_there = [&] {
      EXPECT_TRUE(std::filesystem::exists(inside));
      EXPECT_TRUE(std::filesystem::exists(prefix + old));
    };
    std::filesystem::create_directories(inside);
    write_file(name + old, "x");
    EXPECT_THAT(message_of<StorageError>([&] { TokenFileWriter(prefix, 10); }),
                HasSubstr(suffix + " is a folder"));
    expect_all_there();
    std::filesystem::remove_all(prefix + suffix);  // and one that comes while it writes
    TokenFileWriter writer(prefix, 10);
    std::filesystem::create_directories(inside);
    EXPECT_THAT(message_of<StorageError>([&] { writer.finish(); }), HasSubstr("is a folder"));
    expect_all_there();
  }
}

TEST(TokenFileWriter, RefusesAFolderThatCannotBe) {
  const std::string file = write_file("file", "x");
  EXPECT_THAT(message_of<StorageError>([&] { TokenFileWriter(file + "/sub/tokens", 10); }),
              HasSubstr("create folder"));
}

}  // namespace
}  // namespace switchyard
