#include "parallel/single.h"

#include <cstdio>
#include <cstdlib>
#include <utility>

#include "core/base/errors.h"
#include "parallel/activity.h"
#include "parallel/host_reductions.h"

namespace switchyard::parallel {
namespace {

// What the groups of the only rank share.
struct OnlyRank {
  PublishedWhereabouts whereabouts{};
  Activity activity{whereabouts};
};

class SingleCommunicator final : public HostReductions {
 public:
  SingleCommunicator(const std::string& name, std::shared_ptr<OnlyRank> rank)
      : HostReductions(/*is_checked=*/false), name_(name), rank_(std::move(rank)) {}

  int rank() const override { return 0; }
  int size() const override { return 1; }
  const std::string& name() const override { return name_; }

  std::unique_ptr<Communicator> split(int color, const std::string& name) override {
    return std::make_unique<SingleCommunicator>(name, rank_);
  }
  Activity& activity() override { return rank_->activity; }
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
  std::shared_ptr<OnlyRank> rank_;
};

}  // namespace

std::unique_ptr<Communicator> make_single(const std::string& name) {
  return std::make_unique<SingleCommunicator>(name, std::make_shared<OnlyRank>());
}

}  // namespace switchyard::parallel
