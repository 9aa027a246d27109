#include "parallel/single.h"

#include <cstdio>
#include <cstdlib>

#include "core/base/errors.h"
#include "parallel/host_reductions.h"

namespace switchyard::parallel {
namespace {

class SingleCommunicator final : public HostReductions {
 public:
  explicit SingleCommunicator(const std::string& name) : name_(name) {}

  int rank() const override { return 0; }
  int size() const override { return 1; }
  const std::string& name() const override { return name_; }

  std::unique_ptr<Communicator> split(int color, const std::string& name) override {
    return make_single(name);
  }
  [[noreturn]] void abort(int exit_code, const std::string& message) override {
    std::fprintf(stderr, "%s\n", message.c_str());
    std::_Exit(exit_code);
  }

 private:
  std::unique_ptr<Work> move(const Movement& movement) override {
    const auto& [operation, send, receive, counts, keeps_own] = movement;
    SY_CHECK(counts.send == counts.receive,
             "all_to_all_v '{}' of {}: the only rank sends itself {} rows and expects {}",
             operation.what, name_, counts.send[0], counts.receive[0]);
    if (send != nullptr && !keeps_own) copy_bytes(receive, send, operation.bytes_out);
    return completed_work();
  }

  std::string name_;
};

}  // namespace

std::unique_ptr<Communicator> make_single(const std::string& name) {
  return std::make_unique<SingleCommunicator>(name);
}

}  // namespace switchyard::parallel
