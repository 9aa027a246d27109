#pragma once
// Error kinds, one per exit code. A message says where, what was expected, what came, and what to
// do.

#include <stdexcept>
#include <string>
#include <string_view>

#include <fmt/format.h>

namespace switchyard {

// Process exit codes; part of the command line's contract.
enum class ExitCode : int {
  kDone = 0,
  kBug = 1,     // CheckError or an unknown exception
  kConfig = 2,  // usage or configuration
  kData = 3,    // token files, text, tokenizers
  kCheckpoint = 4,
  kPeer = 5,  // a collective failed or timed out
  kNumerics = 6,
  kStorage = 7,     // files and memory
  kPreempted = 75,  // stopped by a signal after saving
};

class Error : public std::runtime_error {
 public:
  Error(ExitCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ExitCode code() const { return code_; }

 private:
  ExitCode code_;
};

#define SY_ERROR_KIND(Name, kind)                                       \
  class Name : public Error {                                           \
   public:                                                              \
    explicit Name(const std::string& message) : Error(kind, message) {} \
  }
SY_ERROR_KIND(ConfigError, ExitCode::kConfig);
SY_ERROR_KIND(DataError, ExitCode::kData);
SY_ERROR_KIND(CheckpointError, ExitCode::kCheckpoint);
SY_ERROR_KIND(CommError, ExitCode::kPeer);
SY_ERROR_KIND(NumericsError, ExitCode::kNumerics);
SY_ERROR_KIND(StorageError, ExitCode::kStorage);
SY_ERROR_KIND(CheckError, ExitCode::kBug);
#undef SY_ERROR_KIND

// Throws CheckError with the source position; the slow path of SY_CHECK.
[[noreturn]] void throw_check_error(const char* file, int line, const char* condition,
                                    const std::string& message);

// Throws StorageError "<what> <path>: <strerror(errno)>"; call right after the failing system call.
[[noreturn]] void throw_errno(std::string_view what, const std::string& path);

}  // namespace switchyard

// Guards a contract between our own parts. Input from users gets a typed error of its own instead.
#define SY_CHECK(condition, ...)                                                                 \
  do {                                                                                           \
    if (!(condition)) [[unlikely]]                                                               \
      ::switchyard::throw_check_error(__FILE__, __LINE__, #condition, fmt::format(__VA_ARGS__)); \
  } while (false)
