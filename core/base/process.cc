#include "core/base/process.h"

#include <fcntl.h>
#include <unistd.h>

#include <csignal>

namespace switchyard {

void prepare_process() {
  int file;
  do {
    file = ::open("/dev/null", O_RDWR);  // takes the lowest free number
  } while (file >= 0 && file <= STDERR_FILENO);
  if (file >= 0) ::close(file);
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);
}

std::string host_name() {
  char name[256] = "unknown";
  ::gethostname(name, sizeof name - 1);  // on failure the default stays
  return name;
}

}  // namespace switchyard
