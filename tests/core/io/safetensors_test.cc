#include "core/io/safetensors.h"

#include <numeric>
#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/errors.h"
#include "core/io/bytes.h"
#include "tests/core/io/temp_folder.h"

namespace switchyard {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

std::string le64(uint64_t value) { return {reinterpret_cast<const char*>(&value), sizeof value}; }

std::string file_of(std::string_view header, size_t data_bytes) {
  return le64(header.size()) + std::string(header) + std::string(data_bytes, '\0');
}

std::string error_of(std::string_view file_bytes) {
  try {
    static_cast<void>(parse_safetensors(as_byte_span(file_bytes), "f.safetensors"));
  } catch (const CheckpointError& error) {
    return error.what();
  }
  return "nothing was thrown";
}

std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::string read_all(const std::string& path) { return read_text_file(path, uint64_t{1} << 30); }

struct BadFile {
  const char* description;
  std::string bytes;
  const char* message;  // part of what must be said
};

void expect_refused(const std::vector<BadFile>& files) {
  for (const auto& [description, bytes, message] : files) {
    EXPECT_THAT(error_of(bytes), AllOf(StartsWith("f.safetensors: "), HasSubstr(message)))
        << description;
  }
}

TEST(ParseSafetensors, RefusesAnImpossibleHeaderLength) {
  expect_refused({
      {"empty file", "", "header length at offset 0: expected 8 bytes"},
      {"7 bytes", std::string(7, '\0'), "truncated"},
      {"length 0", le64(0), "got 0"},
      {"length 0 with data", le64(0) + "{}", "expected 2 to 2"},
      {"past the end", le64(3) + "{}", "got 3"},
      {"over the format's limit", le64(100'000'001) + "{}", "got 100000001"},
      {"2^64 - 1", le64(UINT64_MAX) + "{}", "got 18446744073709551615"},
      {"negative as int64", le64(uint64_t{1} << 63) + "{}", "got 9223372036854775808"},
      {"wraps when 8 is added", le64(UINT64_MAX - 6) + "{}", "got 18446744073709551609"},
  });
}

TEST(ParseSafetensors, NamesTheFormatThatTheFileReallyHas) {
  const std::string rest(64, '\x01');
  expect_refused({
      {"PyTorch", "PK\x03\x04" + rest, "looks like a PyTorch or zip archive"},
      {"pickle", "\x80\x02}q" + rest, "pickle, which is never loaded"},
      {"GGUF", "GGUF\x03" + rest, "GGUF"},
      {"LFS", "version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS pointer"},
  });
}

TEST(ParseSafetensors, RefusesAHeaderThatIsNotTheFormatsJson) {
  const auto tensor = [](std::string_view fields) {
    return file_of("{\"a\":{" + std::string(fields) + "}}", 1);
  };
  const std::string good = R"("dtype":"U8","shape":[1],"data_offsets":[0,1])";
  ASSERT_EQ(error_of(tensor(good)), "nothing was thrown");
  expect_refused({
      {"space first", file_of(" {}", 0), "'{'"},
      {"an array", file_of("[]", 0), "'{'"},
      {"cut off", file_of("{\"a\":{", 0), "not JSON"},
      {"two values", file_of("{}{}", 0), "not JSON"},
      {"NUL padding", file_of(std::string_view("{}\0\0", 4), 0), "NUL byte at offset 2"},
      {"byte order mark", file_of("\xef\xbb\xbf{}", 0), "'{'"},
      {"invalid UTF-8", file_of("{\"\xff\":1}", 0), "not JSON"},
      {"deep nesting", file_of("{\"a\":" + std::string(100000, '[') + "}", 0), "unexpected array"},
      {"deep objects", tensor(R"("dtype":{"x":1})"), "unexpected object"},
      {"tensor is a number", file_of(R"({"a":1})", 0), "unexpected number 1"},
      {"tensor is null", file_of(R"({"a":null})", 0), "unexpected null"},
      {"tensor is text", file_of(R"({"a":"x"})", 0), "unexpected string"},
      {"unknown key", tensor(good + R"(,"strides":[1])"),
       R"(tensor "a": "strides": expected only)"},
      {"dtype twice", tensor(R"("dtype":"U8",)" + good), R"("dtype": duplicate key)"},
      {"shape twice", tensor(R"("shape":[1],)" + good), R"("shape": duplicate key)"},
      {"offsets twice", tensor(R"("data_offsets":[0,1],)" + good), R"("data_offsets": duplicate)"},
      {"name twice", file_of("{\"a\":{" + good + "},\"a\":{" + good + "}}", 1), "\"a\": duplicate"},
      {"name twice, escaped", file_of("{\"a\":{" + good + "},\"\\u0061\":{" + good + "}}", 1),
       "duplicate"},
      {"metadata number", file_of(R"({"__metadata__":{"k":1}})", 0),
       R"("__metadata__": "k": unexpected number)"},
      {"metadata nested", file_of(R"({"__metadata__":{"k":{}}})", 0), "unexpected object"},
      {"metadata null", file_of(R"({"__metadata__":{"k":null}})", 0), "unexpected null"},
      {"metadata key twice", file_of(R"({"__metadata__":{"k":"","k":""}})", 0), "duplicate key"},
      {"metadata twice", file_of(R"({"__metadata__":{},"__metadata__":{}})", 0), "duplicate name"},
  });
}

TEST(ParseSafetensors, RefusesTensorsThatDoNotFitTheirBytes) {
  const auto one = [](std::string_view dtype, std::string_view shape, std::string_view offsets,
                      size_t data_bytes) {
    return file_of(fmt::format(R"({{"a":{{"dtype":"{}","shape":{},"data_offsets":{}}}}})", dtype,
                               shape, offsets),
                   data_bytes);
  };
  expect_refused({
      {"no offsets", file_of(R"({"a":{"dtype":"U8","shape":[1]}})", 1), "not all are there"},
      {"no dtype", file_of(R"({"a":{"shape":[1],"data_offsets":[0,1]}})", 1), "not all are there"},
      {"no shape", file_of(R"({"a":{"dtype":"U8","data_offsets":[0,1]}})", 1), "not all are there"},
      {"one offset", one("U8", "[1]", "[0]", 1), "got [0]"},
      {"three offsets", one("U8", "[1]", "[0,1,1]", 1), "got [0, 1, 1]"},
      {"offsets not an array", one("U8", "[1]", "1", 1), "unexpected number 1"},
      {"shape not an array", one("U8", "\"1\"", "[0,1]", 1), "unexpected string"},
      {"dtype in an array", file_of(R"({"a":{"dtype":["U8"]}})", 1), "unexpected array"},
      {"inverted", one("U8", "[1]", "[1,0]", 1), "begin <= end"},
      {"beyond the file", one("U8", "[2]", "[0,2]", 1), "ends at 2, but the file holds 1"},
      {"offsets at 2^64", one("U8", "[1]", "[18446744073709551614,18446744073709551615]", 1),
       "gap"},
      {"offset past 2^64", one("U8", "[1]", "[0,18446744073709551616]", 1), "non-negative integer"},
      {"too few for the shape", one("F32", "[2]", "[0,4]", 4), "need 8 bytes"},
      {"too many for the shape", one("BF16", "[1]", "[0,4]", 4), "need 2 bytes"},
      {"scalar without bytes", one("F32", "[]", "[0,0]", 0), "need 4 bytes"},
      {"product wraps to 0", one("U8", "[4294967296,4294967296]", "[0,0]", 0), "too many elements"},
      {"bytes wrap to 0", one("F32", "[4611686018427387904]", "[0,0]", 0), "too many elements"},
      {"wraps around a zero", one("U8", "[0,4294967296,4294967296]", "[0,0]", 0),
       "too many elements"},
      {"negative dimension", one("U8", "[-1]", "[0,1]", 1), "non-negative integer, got -1"},
      {"two negatives", one("U8", "[-1,-1]", "[0,1]", 1), "got -1"},
      {"fraction", one("U8", "[1.0]", "[0,1]", 1), "got \"1.0\""},
      {"exponent", one("U8", "[1e0]", "[0,1]", 1), "got \"1e0\""},
      {"null dimension", one("U8", "[null]", "[0,1]", 1), "unexpected null"},
      {"true dimension", one("U8", "[true]", "[0,1]", 1), "unexpected boolean"},
      {"known dtype", one("U16", "[1]", "[0,2]", 2),
       "U16 tensors are not supported, expected U8, I32"},
      {"unknown dtype", one("U9", "[1]", "[0,1]", 1), "unknown dtype \"U9\""},
      {"unknown dtype of any size", one("Q4", "[100]", "[0,1]", 1), "unknown dtype"},
      {"trailing bytes", one("U8", "[1]", "[0,1]", 3), "2 bytes behind the last tensor"},
      {"trailing bytes, no tensor", file_of("{}", 1), "1 bytes behind the last tensor"},
      {"first not at 0", one("U8", "[1]", "[1,2]", 2), "begins at 1, expected 0"},
  });
}

std::string two_tensors(std::string_view a_offsets, std::string_view b_offsets, size_t data_bytes) {
  return file_of(fmt::format(R"({{"a":{{"dtype":"U8","shape":[2],"data_offsets":{}}},)"
                             R"("b":{{"dtype":"U8","shape":[2],"data_offsets":{}}}}})",
                             a_offsets, b_offsets),
                 data_bytes);
}

TEST(ParseSafetensors, RefusesGapsAndOverlapsBetweenTensors) {
  EXPECT_EQ(error_of(two_tensors("[0,2]", "[2,4]", 4)), "nothing was thrown");
  EXPECT_EQ(error_of(two_tensors("[2,4]", "[0,2]", 4)), "nothing was thrown");
  expect_refused({
      {"gap", two_tensors("[0,2]", "[3,5]", 5), "tensor \"b\": its data begins at 3, expected 2"},
      {"overlap", two_tensors("[0,2]", "[1,3]", 3), "(overlap)"},
      {"same bytes", two_tensors("[0,2]", "[0,2]", 2), "(overlap)"},
  });
}

TEST(ParseSafetensors, ShowsHostileNamesHarmlessly) {
  EXPECT_THAT(error_of(file_of(R"({"\u001b[2J\n":1})", 0)), HasSubstr(R"("\x1b[2J\x0a")"));
}

TEST(ParseSafetensors, AcceptsAnEmptyFileTrailingSpacesAndAnyFieldOrder) {
  EXPECT_TRUE(parse_safetensors(as_byte_span(file_of("{}      ", 0)), "f").entries.empty());
  const auto header = parse_safetensors(
      as_byte_span(file_of(R"({"a":{"data_offsets":[0,2],"shape":[2],"dtype":"U8"}})", 2)), "f");
  EXPECT_THAT(header.entries.at(0).shape, ElementsAre(2));
}

TEST(ParseSafetensors, ReadsTheTextsThatOtherWritersAdd) {
  const auto header = parse_safetensors(
      as_byte_span(file_of(R"({"__metadata__":{"format":"pt","text":"a\"\\\n\u20ac"}})", 0)), "f");
  EXPECT_EQ(header.metadata.at("format"), "pt");
  EXPECT_EQ(header.metadata.at("text"), "a\"\\\n\xe2\x82\xac");
}

// ---- writing ----

class SafetensorsOnDisk : public testing::Test {
 protected:
  WrittenSafetensors write(std::vector<TensorToWrite> tensors) {
    return write_safetensors(FileSystem(), path_, std::move(tensors));
  }

  TempFolder folder_;
  std::string path_ = folder_.file("f.safetensors");
};

// Byte for byte what the reference library's format description asks for.
TEST_F(SafetensorsOnDisk, WritesTheGoldenBytes) {
  const std::string u8 = "xyz", f32("\0\0\x80\x3f", 4), i64(8, '\x07');
  write({{"b", DType::kUInt8, {3}, as_byte_span(u8)},
         {"z", DType::kFloat32, {}, as_byte_span(f32)},
         {"a", DType::kInt64, {1, 1}, as_byte_span(i64)},
         {"e", DType::kFloat32, {2, 0}, {}}});
  std::string header = R"({"a":{"dtype":"I64","shape":[1,1],"data_offsets":[0,8]},)"
                       R"("e":{"dtype":"F32","shape":[2,0],"data_offsets":[8,8]},)"
                       R"("z":{"dtype":"F32","shape":[],"data_offsets":[8,12]},)"
                       R"("b":{"dtype":"U8","shape":[3],"data_offsets":[12,15]}})";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  EXPECT_EQ(read_all(path_), le64(header.size()) + header + i64 + f32 + u8);
}

TEST_F(SafetensorsOnDisk, ReadsBackEveryDTypeShapeAndText) {
  std::vector<float> large(300'000);
  std::iota(large.begin(), large.end(), 0.0f);
  const std::string bytes = "0123456789abcdef";
  const auto first = [&](size_t count) { return as_byte_span(bytes).first(count); };
  write({{"large", DType::kFloat32, {1000, 300}, std::as_bytes(std::span(large))},
         {"empty", DType::kFloat64, {0, 7}, {}},
         {"scalar", DType::kFloat64, {}, first(8)},
         {"i32", DType::kInt32, {2, 2}, first(16)},
         {"i64", DType::kInt64, {2}, first(16)},
         {"bf16 \"q\" \xc3\xa9\n", DType::kBFloat16, {3, 1, 1}, first(6)},
         {"", DType::kUInt8, {1}, first(1)}});
  const SafetensorsFile file(path_);
  EXPECT_EQ(file.entries().size(), 7u);
  EXPECT_EQ(text_of(file.bytes(*file.find("large"))), text_of(std::as_bytes(std::span(large))));
  EXPECT_EQ(text_of(file.bytes(*file.find("bf16 \"q\" \xc3\xa9\n"))), "012345");
  EXPECT_THAT(file.find("bf16 \"q\" \xc3\xa9\n")->shape, ElementsAre(3, 1, 1));
  EXPECT_THAT(file.find("scalar")->shape, ElementsAre());
  EXPECT_TRUE(file.bytes(*file.find("empty")).empty());
  EXPECT_EQ(text_of(file.bytes(*file.find(""))), "0");
  EXPECT_EQ(file.find("absent"), nullptr);
  for (const auto& entry : file.entries()) {
    const auto address = reinterpret_cast<uintptr_t>(file.bytes(entry).data());
    EXPECT_EQ(address % size_of(entry.dtype), 0u) << entry.name;
  }
}

TEST_F(SafetensorsOnDisk, GivesTheChecksumsOfWhatItWrote) {
  const std::string a(3 << 20, 'a'), b = "bbbb";
  const auto written = write({{"b", DType::kUInt8, {4}, as_byte_span(b)},
                              {"a", DType::kUInt8, {3 << 20}, as_byte_span(a)}});
  ASSERT_EQ(written.tensors.size(), 2u);
  EXPECT_EQ(written.tensors[0].name, "a");
  EXPECT_EQ(written.tensors[0].crc32c, crc32c(as_byte_span(a)));
  EXPECT_EQ(written.tensors[1].crc32c, crc32c(as_byte_span(b)));
  const std::string file = read_all(path_);
  EXPECT_EQ(to_hex(written.sha256), sha256_hex(as_byte_span(file)));
  EXPECT_EQ(written.file_bytes, file.size());
}

TEST_F(SafetensorsOnDisk, AlignsTheDataWhateverTheHeadersLength) {
  for (size_t length = 0; length < 8; ++length) {
    write({{std::string(length, 'n'), DType::kUInt8, {0}, {}}});
    const std::string file = read_all(path_);
    EXPECT_EQ(parse_safetensors(as_byte_span(file), path_).data_begin % 8, 0u) << length;
  }
}

TEST_F(SafetensorsOnDisk, DoesNotDependOnTheOrderOfTheTensors) {
  const std::string a = "a", b = "b";
  const TensorToWrite first{"a", DType::kUInt8, {1}, as_byte_span(a)};
  const TensorToWrite second{"b", DType::kUInt8, {1}, as_byte_span(b)};
  EXPECT_EQ(write({first, second}).sha256, write({second, first}).sha256);
}

TEST_F(SafetensorsOnDisk, RefusesToWriteAHeaderThatNoReaderAccepts) {
  const std::string name(kSafetensorsMaxHeaderBytes, 'n');
  EXPECT_THROW(write({{name, DType::kUInt8, {0}, {}}}), CheckpointError);
  EXPECT_THROW(write({{"\xff", DType::kUInt8, {0}, {}}}), CheckpointError);
  EXPECT_FALSE(std::filesystem::exists(path_));
}

TEST_F(SafetensorsOnDisk, TakesTensorsThatContradictThemselvesForABug) {
  const std::string data = "1234";
  const auto bytes = as_byte_span(data);
  EXPECT_THROW(write({{"a", DType::kFloat32, {2}, bytes}}), CheckError);
  EXPECT_THROW(write({{"a", DType::kUInt8, {4}, bytes}, {"a", DType::kInt32, {1}, bytes}}),
               CheckError);
  EXPECT_THROW(write({{"__metadata__", DType::kUInt8, {4}, bytes}}), CheckError);
}

TEST_F(SafetensorsOnDisk, AnnouncesEachPieceSyncsLastAndPassesFailuresOn) {
  const std::string data((1 << 20) + 1, 'a');
  std::vector<FileStep> steps;
  const FileSystem files([&](FileStep step, const std::string&) {
    steps.push_back(step);
    if (steps.size() == 6) throw StorageError("injected");
  });
  const TensorToWrite tensor{"a", DType::kUInt8, {(1 << 20) + 1}, as_byte_span(data)};
  EXPECT_THROW(write_safetensors(files, path_, {tensor}), StorageError);
  EXPECT_THAT(steps, ElementsAre(FileStep::kOpen, FileStep::kWrite, FileStep::kWrite,
                                 FileStep::kWrite, FileStep::kWrite, FileStep::kSync));
}

TEST_F(SafetensorsOnDisk, AnAbsentFileIsACheckpointError) {
  EXPECT_THROW(SafetensorsFile("/no/such/file"), CheckpointError);
}

// ---- damage ----

std::string small_valid_file() {
  return file_of(
      R"({"__metadata__":{"k":"v"},"a":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},)"
      R"("b":{"dtype":"BF16","shape":[],"data_offsets":[8,10]}}   )",
      10);
}

TEST(ParseSafetensors, RefusesAFileCutAtAnyByte) {
  const std::string file = small_valid_file();
  ASSERT_EQ(error_of(file), "nothing was thrown");
  for (size_t length = 0; length < file.size(); ++length) {
    // A copy of exactly that size, so that a sanitizer sees a read past its end.
    const std::vector<char> cut(file.begin(), file.begin() + static_cast<ptrdiff_t>(length));
    EXPECT_THAT(error_of({cut.data(), cut.size()}), StartsWith("f.safetensors: ")) << length;
  }
}

// Any damage is either refused as a CheckpointError or leaves a description that fits the file.
TEST(ParseSafetensors, SurvivesRandomDamage) {
  const std::string valid = small_valid_file();
  const std::string_view alphabet =
      "{}[]\":,0123456789-.eE \\u\0\xff"
      "ab";
  std::mt19937 random(20240607);
  int accepted = 0;
  for (int trial = 0; trial < 20'000; ++trial) {
    std::string file = valid;
    for (uint32_t edits = 1 + random() % 4; edits > 0; --edits) {
      const size_t at = random() % 3 == 0 ? random() % 9 : random() % file.size();
      const char value =
          random() % 2 == 0 ? static_cast<char>(random()) : alphabet[random() % alphabet.size()];
      switch (random() % 4) {
        case 0:
          file.erase(at, 1 + random() % 3);
          break;
        case 1:
          file.insert(at, 1 + random() % 3, value);
          break;
        default:
          file[at] = value;
      }
    }
    try {
      const auto header = parse_safetensors(as_byte_span(file), "f");
      const uint64_t data_bytes = file.size() - header.data_begin;
      ASSERT_EQ(header.entries.empty() ? 0 : header.entries.back().end, data_bytes) << trial;
      ++accepted;
    } catch (const CheckpointError&) {
    }
  }
  EXPECT_GT(accepted, 0);
  EXPECT_LT(accepted, 10'000);
}

}  // namespace
}  // namespace switchyard
