#include "core/data/text_reader.h"

#include <sys/resource.h>
#include <unistd.h>

#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/errors.h"
#include "core/data/utf8.h"
#include "tests/core/data/test_files.h"

namespace switchyard {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using namespace testing_data;

struct Read {
  std::vector<std::string> documents;
  TextCounts counts;
};

Read read_text(const std::string& bytes, TextFormat format, int64_t limit = 1 << 20) {
  TextReader reader(write_file("text", bytes), {.format = format, .max_document_bytes = limit});
  Read read;
  for (std::string document; reader.next(document);) read.documents.push_back(document);
  EXPECT_EQ(reader.position(), static_cast<int64_t>(bytes.size()));
  read.counts = reader.counts();
  return read;
}

TEST(Utf8, AcceptsWhatTheStandardAcceptsAndNoMore) {
  for (const std::string good : {"", "plain ascii text", "é", "日本", "\xF0\x9F\x99\x82",
                                 "\xED\x9F\xBF", "\xF4\x8F\xBF\xBF"})
    EXPECT_EQ(valid_utf8_prefix(good), good.size()) << good;
  for (const std::string bad :
       {"\x80", "\xC0\x80", "\xC3", "\xE0\x80\x80", "\xED\xA0\x80", "\xE6\x97", "\xF0\x80\x80\x80",
        "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xFF"}) {
    EXPECT_EQ(valid_utf8_prefix(bad), 0u);
    EXPECT_EQ(valid_utf8_prefix("0123456789" + bad + "x"), 10u);
    EXPECT_EQ(count_invalid_utf8("a" + bad + "b"), static_cast<int64_t>(bad.size()));
  }
}

TEST(TextReader, SplitsLinesWithEitherLineEndAndDropsTheByteOrderMark) {
  const auto read = read_text("\xEF\xBB\xBFone\r\n\r\n\ntwo \nthree", TextFormat::kLines);
  EXPECT_THAT(read.documents, ElementsAre("one", "two ", "three"));
  EXPECT_EQ(read.counts.documents, 3);
  EXPECT_EQ(read.counts.bytes, 12);
}

TEST(TextReader, SplitsParagraphsAtBlankLines) {
  const auto read = read_text("\n \na\r\nb\r\n\t \r\n\r\nc\n\nd\n e", TextFormat::kParagraphs);
  EXPECT_THAT(read.documents, ElementsAre("a\nb", "c", "d\n e"));
  EXPECT_THAT(read_text("a\n", TextFormat::kParagraphs).documents, ElementsAre("a"));
  EXPECT_THAT(read_text("a\n\n", TextFormat::kParagraphs).documents, ElementsAre("a"));
}

TEST(TextReader, FindsNothingInEmptyOrBlankFiles) {
  for (const auto format : {TextFormat::kLines, TextFormat::kParagraphs, TextFormat::kJsonLines})
    for (const std::string text : {"", "\n", "\r\n\n\n", "\xEF\xBB\xBF"})
      EXPECT_TRUE(read_text(text, format).documents.empty());
}

TEST(TextReader, CutsLongDocumentsBetweenCharacters) {
  const auto lines = read_text("aébcé\nxyz\n", TextFormat::kLines, 4);
  EXPECT_THAT(lines.documents, ElementsAre("aéb", "cé", "xyz"));
  EXPECT_EQ(lines.counts.cut_documents, 1);
  const auto paragraphs = read_text("ab\ncd\nef\n\ngh\n", TextFormat::kParagraphs, 6);
  EXPECT_THAT(paragraphs.documents, ElementsAre("ab\ncd\n", "ef", "gh"));
  const auto json = read_text(R"({"text": "日本語"})", TextFormat::kJsonLines, 7);
  EXPECT_THAT(json.documents, ElementsAre("日本", "語"));
  EXPECT_EQ(json.counts.cut_documents, 1);
}

TEST(TextReader, ReadsOneHugeLineInParts) {
  const int64_t size = 20'000'000;
  std::string line;
  while (static_cast<int64_t>(line.size()) < size) line += "wörd ";
  const auto read = read_text(line, TextFormat::kParagraphs);
  std::string joined;
  for (const auto& document : read.documents) {
    EXPECT_LE(document.size(), size_t{1} << 20);
    joined += document;
  }
  EXPECT_TRUE(joined == line);
  EXPECT_EQ(read.counts.cut_documents, read.counts.documents - 1);
  EXPECT_EQ(read.counts.invalid_utf8_bytes, 0);
}

TEST(TextReader, CountsInvalidUtf8AndKeepsIt) {
  const auto read = read_text("a\xFF\xFEz\nok\n\xED\xA0\x80\n", TextFormat::kLines);
  EXPECT_THAT(read.documents, ElementsAre("a\xFF\xFEz", "ok", "\xED\xA0\x80"));
  EXPECT_EQ(read.counts.invalid_utf8_bytes, 5);
  EXPECT_EQ(read.counts.invalid_utf8_documents, 2);
}

TEST(TextReader, TakesTheTextFieldOfJsonLinesAndSkipsBadRecords) {
  const auto read = read_text(
      "{\"text\": \"one\\ntwo\", \"id\": 3}\r\n\n{\"text\": \"\"}\n{\"text\": 5}\n[]\n{\"text\": "
      "\"cut\n"
      "{\"text\": \"\\ud800\"}\n{\"text\": \"\xFF\"}\n{\"meta\": {}, \"text\": \"last\"}",
      TextFormat::kJsonLines);
  EXPECT_THAT(read.documents, ElementsAre("one\ntwo", "last"));
  EXPECT_EQ(read.counts.skipped_records, 5);
}

TEST(TextReader, SurvivesDeeplyNestedJson) {
  const std::string deep(100'000, '[');
  const auto read = read_text("{\"text\":\"a\"}\n" + deep + "\n", TextFormat::kJsonLines);
  EXPECT_EQ(read.counts.skipped_records, 1);
  const std::string closed = deep + std::string(deep.size(), ']');
  EXPECT_EQ(read_text("{\"text\":\"a\"}\n" + closed, TextFormat::kJsonLines).counts.skipped_records,
            1);
}

TEST(TextReader, TakesNoTextButTheRecordsOwn) {
  const auto read = read_text(
      "{\"text\": \"a\", \"more\": {\"text\": 1, \"deep\": [[{\"text\": \"no\"}]]}}\n"
      "{\"more\": {\"text\": \"no\"}}\n{\"text\": {\"text\": \"no\"}}\n{\"text\": [\"no\"]}\n"
      "[{\"text\": \"no\"}]\n{\"text\": \"b\", \"text\": \"c\"}\n\"text\"\n{\"text\": "
      "\"a\\u0000b\"}\n",
      TextFormat::kJsonLines);
  EXPECT_THAT(read.documents, ElementsAre("a", std::string("a\0b", 3)));
  EXPECT_EQ(read.counts.skipped_records, 6);
}

#ifndef __SANITIZE_ADDRESS__  // which takes address space for itself
int64_t address_space() {
  int64_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  return pages * sysconf(_SC_PAGESIZE);
}

// Millions of values on a line of 24 MB that is read with 160 MB to spare.
TEST(TextReader, KeepsNoValueOfARecordButItsText) {
  std::string list = "[";
  for (int i = 0; i < 8'000'000; ++i) list += "[],";
  const auto path = write_file("wide", "{\"text\":\"a\"}\n{\"list\":" + list + "[]]}\n" + list);
  const auto skips_two = [&] {
    const auto limit = static_cast<rlim_t>(address_space() + (int64_t{160} << 20));
    const struct rlimit limits { limit, limit };
    setrlimit(RLIMIT_AS, &limits);
    TextReader reader(path, {.format = TextFormat::kJsonLines});
    for (std::string document; reader.next(document);) continue;
    return reader.counts().skipped_records == 2;
  };
  EXPECT_EXIT(_exit(skips_two() ? 0 : 1), testing::ExitedWithCode(0), "");
}
#endif

TEST(TextReader, RefusesAFileWhoseFirstRecordIsNoJson) {
  const std::string message =
      message_of<DataError>([] { read_text("\nplain text\n", TextFormat::kJsonLines); });
  EXPECT_THAT(message,
              AllOf(HasSubstr("text:2: not JSON"), HasSubstr("the first record is not usable")));
}

TEST(TextReader, NamesAFileThatIsNotThere) {
  EXPECT_THAT(message_of<StorageError>([] { TextReader("/no/such/file", {}); }),
              HasSubstr("/no/such/file"));
}

TEST(TextFormat, IsNamedOrGuessed) {
  EXPECT_EQ(parse_text_format("lines"), TextFormat::kLines);
  EXPECT_EQ(guess_text_format("a.jsonl"), TextFormat::kJsonLines);
  EXPECT_EQ(guess_text_format("a.txt"), TextFormat::kParagraphs);
  EXPECT_THAT(message_of<ConfigError>([] { parse_text_format("xml"); }), HasSubstr("'xml'"));
}

}  // namespace
}  // namespace switchyard
