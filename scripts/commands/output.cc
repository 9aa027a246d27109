#include "scripts/commands/output.h"

#include <cerrno>
#include <cstdio>

#include "core/base/errors.h"

namespace switchyard::commands {

void print(std::string_view text) {
  errno = 0;
  const bool is_written =
      std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0;
  if (!is_written && errno != EPIPE) throw_errno("cannot write the results to", "standard output");
}

}  // namespace switchyard::commands
