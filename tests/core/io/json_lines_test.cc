#include "core/io/json_lines.h"

#include <cmath>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "core/base/errors.h"
#include "core/io/bytes.h"
#include "tests/core/io/temp_folder.h"

namespace switchyard {
namespace {

std::string read_all(const std::string& path) { return read_text_file(path, 1 << 20); }

void write_all(const std::string& path, std::string_view text) {
  write_file_atomically(FileSystem(), path, as_byte_span(text));
}

TEST(ToJsonLine, KeepsTheOrderOfKeysAndEscapesText) {
  EXPECT_EQ(to_json_line({{"step", 3}, {"loss", 2.5}, {"a", "x\"\n"}}),
            "{\"step\": 3, \"loss\": 2.5, \"a\": \"x\\\"\\n\"}\n");
  EXPECT_EQ(to_json_line({}), "{}\n");
  EXPECT_EQ(
      to_json_line({{"load", std::vector<double>{0.25, NAN}}, {"none", std::vector<double>{}}}),
      "{\"load\": [0.25, null], \"none\": []}\n");
}

TEST(ToJsonLine, NumbersReadBackAsTheSameNumber) {
  for (const double value : {0.1, 1.0 / 3, 1e300, 5e-324, -2.88e-4, 123456789.0, 1e21}) {
    const auto line = to_json_line({{"x", value}});
    EXPECT_EQ(nlohmann::json::parse(line)["x"].get<double>(), value) << line;
  }
  EXPECT_EQ(to_json_line({{"x", 0.1}}), "{\"x\": 0.1}\n");
  EXPECT_EQ(to_json_line({{"x", INT64_MAX}}), "{\"x\": 9223372036854775807}\n");
}

TEST(ToJsonLine, WritesWhatJsonLacksAsNull) {
  const double infinity = std::numeric_limits<double>::infinity();
  EXPECT_EQ(to_json_line({{"a", std::nan("")}, {"b", infinity}, {"c", -infinity}}),
            "{\"a\": null, \"b\": null, \"c\": null}\n");
}

TEST(JsonLinesWriter, LinesAreThereAsSoonAsWritten) {
  TempFolder folder;
  JsonLinesWriter writer(folder.file("m.jsonl"));
  writer.write({{"step", 1}});
  EXPECT_EQ(read_all(folder.file("m.jsonl")), "{\"step\": 1}\n");
}

TEST(DropJsonLinesAfter, MakesAResumedFileEqualToAnUninterruptedOne) {
  TempFolder folder;
  const auto write_steps = [](const std::string& path, int64_t begin, int64_t end) {
    JsonLinesWriter writer(path);
    for (int64_t step = begin; step < end; ++step) {
      writer.write({{"step", step}, {"loss", 1.0 / static_cast<double>(step)}});
    }
  };
  write_steps(folder.file("whole"), 1, 20);
  write_steps(folder.file("resumed"), 1, 14);  // killed after step 13; the last checkpoint has 10
  drop_json_lines_after(FileSystem(), folder.file("resumed"), 10);
  write_steps(folder.file("resumed"), 11, 20);
  EXPECT_EQ(read_all(folder.file("resumed")), read_all(folder.file("whole")));
}

TEST(DropJsonLinesAfter, DropsATornLastLineAndKeepsLinesWithoutAStep) {
  TempFolder folder;
  const std::string path = folder.file("f");
  write_all(path, "{\"run\": \"x\"}\n[1]\n{\"step\": 1}\n{\"step\": 9}\n{\"step\": 1, \"lo");
  drop_json_lines_after(FileSystem(), path, 5);
  EXPECT_EQ(read_all(path), "{\"run\": \"x\"}\n[1]\n{\"step\": 1}\n");
}

TEST(DropJsonLinesAfter, DropsADamagedLineWithAWarning) {
  TempFolder folder;
  const std::string path = folder.file("f");
  write_all(path, "{\"step\": 1}\n\xff\x01\n{\"step\": 2}\n");
  testing::internal::CaptureStderr();
  drop_json_lines_after(FileSystem(), path, 5);
  EXPECT_THAT(testing::internal::GetCapturedStderr(), testing::HasSubstr(path + ":2: not JSON"));
  EXPECT_EQ(read_all(path), "{\"step\": 1}\n{\"step\": 2}\n");
}

TEST(DropJsonLinesAfter, LeavesAFileAloneThatNeedsNoCut) {
  TempFolder folder;
  const FileSystem no_steps([](FileStep, const std::string& path) { FAIL() << path; });
  drop_json_lines_after(no_steps, folder.file("absent"), 1);
  write_all(folder.file("f"), "{\"step\": 1}\n");
  drop_json_lines_after(no_steps, folder.file("f"), 1);
  write_all(folder.file("empty"), "");
  drop_json_lines_after(no_steps, folder.file("empty"), 1);
}

TEST(DropJsonLinesAfter, KeepsTheFileIfReplacingItFails) {
  TempFolder folder;
  write_all(folder.file("f"), "{\"step\": 7}\n");
  const FileSystem files([](FileStep step, const std::string&) {
    if (step == FileStep::kRename) throw StorageError("injected");
  });
  EXPECT_THROW(drop_json_lines_after(files, folder.file("f"), 1), StorageError);
  EXPECT_EQ(read_all(folder.file("f")), "{\"step\": 7}\n");
}

}  // namespace
}  // namespace switchyard
