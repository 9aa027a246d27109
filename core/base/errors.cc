#include "core/base/errors.h"

#include <cerrno>
#include <cstring>

namespace switchyard {

void throw_check_error(const char* file, int line, const char* condition,
                       const std::string& message) {
  throw CheckError(fmt::format("{}:{}: check failed: {}: {}", file, line, condition, message));
}

void throw_errno(std::string_view what, const std::string& path) {
  const int error = errno;
  throw StorageError(fmt::format("{} {}: {}", what, path, std::strerror(error)));
}

}  // namespace switchyard
