#pragma once
// A limit on the size of files that this process writes: stands for a disk that is full for a
// while. The kernel writes up to the limit (a short write), then refuses. It holds for stdout too
// if that is a file, so print nothing meanwhile.

#include <signal.h>
#include <sys/resource.h>

namespace switchyard {

class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : old_handler_(::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    struct rlimit low = before_;
    low.rlim_cur = bytes;
    ::setrlimit(RLIMIT_FSIZE, &low);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    ::signal(SIGXFSZ, old_handler_);
  }

 private:
  sighandler_t old_handler_;
  struct rlimit before_ {};
};

}  // namespace switchyard
