#include "parallel/agreement.h"

#include <exception>
#include <optional>

#include <fmt/format.h>

#include "core/base/errors.h"

namespace switchyard::parallel {
namespace {

// What became of the work on one rank. The ranks send each other the code as one character and the
// text behind it.
struct Outcome {
  ExitCode code = ExitCode::kDone;
  std::string text;  // the result, or the error's message
};

Outcome outcome_of(const std::function<std::string()>& work) {
  try {
    return {ExitCode::kDone, work()};
  } catch (const Error& error) {
    return {error.code(), error.what()};
  } catch (const std::exception& error) {
    return {ExitCode::kBug, error.what()};
  }
}

[[noreturn]] void throw_error(ExitCode code, const std::string& message) {
  switch (code) {
    case ExitCode::kConfig:
      throw ConfigError(message);
    case ExitCode::kData:
      throw DataError(message);
    case ExitCode::kCheckpoint:
      throw CheckpointError(message);
    case ExitCode::kPeer:
      throw CommError(message);
    case ExitCode::kNumerics:
      throw NumericsError(message);
    case ExitCode::kStorage:
      throw StorageError(message);
    default:
      throw CheckError(message);
  }
}

}  // namespace

std::vector<std::string> agree(Communicator& group, const char* what,
                               const std::function<std::string()>& work) {
  const Outcome mine = outcome_of(work);
  auto texts = group.all_gather_text(static_cast<char>(mine.code) + mine.text, what);
  std::optional<ExitCode> failure;
  std::string message;
  for (size_t rank = 0; rank < texts.size(); ++rank) {
    const auto code = static_cast<ExitCode>(texts[rank][0]);
    texts[rank].erase(0, 1);
    if (code == ExitCode::kDone) continue;
    if (!failure) failure = code;
    if (!message.empty()) message += '\n';
    message += texts.size() == 1 ? texts[rank] : fmt::format("rank {}: {}", rank, texts[rank]);
  }
  if (failure) throw_error(*failure, message);
  return texts;
}

void do_on_all(Communicator& group, const char* what, const std::function<void()>& work) {
  agree(group, what, [&] {
    work();
    return std::string();
  });
}

}  // namespace switchyard::parallel
