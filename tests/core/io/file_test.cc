#include "core/io/file.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/errors.h"
#include "core/io/bytes.h"
#include "core/io/file_system.h"
#include "tests/core/io/file_size_limit.h"
#include "tests/core/io/temp_folder.h"

namespace switchyard {
namespace {

using testing::HasSubstr;

std::string text_of(const std::string& path) { return read_text_file(path, 1 << 20); }

std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

void write_text(const std::string& path, std::string_view text) {
  OutputFile(path, OutputFile::Mode::kReplace).write(as_byte_span(text));
}

template <typename Action>
std::string storage_error_of(Action action) {
  try {
    action();
  } catch (const StorageError& error) {
    return error.what();
  }
  return "nothing was thrown";
}

TEST(OutputFile, ReplacesOrAppends) {
  TempFolder folder;
  const std::string path = folder.file("f");
  write_text(path, "first");
  write_text(path, "ab");
  OutputFile file(path, OutputFile::Mode::kAppend);
  EXPECT_EQ(file.size(), 2u);
  file.write(as_byte_span("cd"));
  file.sync();
  file.close();
  EXPECT_EQ(text_of(path), "abcd");
}

TEST(OutputFile, GoesOnBehindTheCutAfterTruncation) {
  TempFolder folder;
  for (const auto mode : {OutputFile::Mode::kReplace, OutputFile::Mode::kAppend}) {
    OutputFile file(folder.file(mode == OutputFile::Mode::kAppend ? "a" : "r"), mode);
    file.write(as_byte_span("abcdef"));
    file.truncate(2);
    file.write(as_byte_span("x"));
    EXPECT_EQ(file.size(), 3u);
    EXPECT_EQ(text_of(file.path()), "abx");
  }
}

TEST(OutputFile, NamesPathOffsetAndSpaceWhenTheDiskIsFull) {
  const std::string message = storage_error_of([] { write_text("/dev/full", "abc"); });
  EXPECT_THAT(message, HasSubstr("write /dev/full at offset 0: No space left on device"));
  EXPECT_THAT(message, HasSubstr("needed 3 bytes, "));
}

TEST(OutputFile, GoesOnAfterAShortWriteAndNamesTheOffsetThatFailed) {
  TempFolder folder;
  std::string message;
  {
    const FileSizeLimit limit(5);
    message = storage_error_of([&] { write_text(folder.file("f"), "12345678"); });
  }
  EXPECT_THAT(message, HasSubstr("f at offset 5: File too large"));
  EXPECT_EQ(text_of(folder.file("f")), "12345");
}

TEST(InputFile, NamesThePathAndTheCauseWhenAbsent) {
  EXPECT_EQ(storage_error_of([] { InputFile("/no/such/file"); }),
            "open /no/such/file: No such file or directory");
}

TEST(InputFile, ReadsAtOffsetsAndIsShortOnlyAtTheEnd) {
  TempFolder folder;
  write_text(folder.file("f"), "abcdef");
  InputFile file(folder.file("f"));
  EXPECT_EQ(file.size(), 6u);
  std::vector<std::byte> out(4);
  EXPECT_EQ(file.read_at(out, 1), 4u);
  EXPECT_EQ(text_of(out), "bcde");
  EXPECT_EQ(file.read_at(out, 5), 1u);
  EXPECT_EQ(file.read_at(out, 60), 0u);
  EXPECT_EQ(file.read(out), 4u);
  EXPECT_EQ(file.read(out), 2u);
  EXPECT_EQ(file.read(out), 0u);
}

// A pipe gives what its writer has written so far, and signals interrupt the waiting reader.
TEST(InputFile, GoesOnAfterShortReadsAndInterruptions) {
  TempFolder folder;
  const std::string path = folder.file("pipe");
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  struct sigaction interrupt {
  }, before{};
  interrupt.sa_handler = [](int) {};  // no SA_RESTART: the call returns EINTR
  ASSERT_EQ(::sigaction(SIGUSR1, &interrupt, &before), 0);
  std::string received(6, '\0');
  std::thread reader([&] {
    InputFile file(path);
    EXPECT_EQ(file.read(std::as_writable_bytes(std::span(received))), received.size());
  });
  const int writer = ::open(path.c_str(), O_WRONLY);
  for (const char* piece : {"ab", "cd", "ef"}) {
    for (int i = 0; i < 100; ++i) {
      ::pthread_kill(reader.native_handle(), SIGUSR1);
      std::this_thread::yield();
    }
    ASSERT_EQ(::write(writer, piece, 2), 2);
  }
  reader.join();
  ::close(writer);
  ::sigaction(SIGUSR1, &before, nullptr);
  EXPECT_EQ(received, "abcdef");
}

TEST(MappedFile, GivesTheBytesWhereverItIsMovedTo) {
  TempFolder folder;
  const std::string path = folder.file("f");
  write_text(path, "abcdef");
  MappedFile first(path, MappedFile::Access::kSequential);
  MappedFile file = std::move(first);
  EXPECT_EQ(text_of(file.bytes()), "abcdef");
}

TEST(MappedFile, AnEmptyFileIsAnEmptySpanAndAFolderIsRefused) {
  TempFolder folder;
  write_text(folder.file("empty"), "");
  EXPECT_TRUE(MappedFile(folder.file("empty")).bytes().empty());
  EXPECT_THAT(storage_error_of([&] { MappedFile file(folder.path()); }),
              HasSubstr("not a regular file"));
}

TEST(FreeBytes, IsPositiveWhereATestCanWriteAndFailsForNoPath) {
  TempFolder folder;
  EXPECT_GT(free_bytes(folder.path()), 0u);
  EXPECT_THROW(static_cast<void>(free_bytes("/no/such/folder")), StorageError);
}

}  // namespace
}  // namespace switchyard
