#include "parallel/pipeline.h"

#include <fmt/format.h>

namespace switchyard::parallel {

// An exchange in which one side has nothing to send is a transfer, with the deadline and the
// diagnosis of every other operation.
std::unique_ptr<Work> Link::start_send(const void* data, int64_t bytes, const char* what) {
  ExchangeCounts counts{{0, 0}, {0, 0}, bytes};
  counts.send[1 - pair_->rank()] = bytes > 0;
  return pair_->start_all_to_all_v(data, nullptr, counts, what);
}

void Link::receive(void* data, int64_t bytes, const char* what) {
  ExchangeCounts counts{{0, 0}, {0, 0}, bytes};
  counts.receive[1 - pair_->rank()] = bytes > 0;
  pair_->start_all_to_all_v(nullptr, data, counts, what)->wait();
}

Pipeline::Pipeline(Communicator& stages) : stages_(&stages) {
  if (stages.size() == 1) return;
  for (const int parity : {0, 1}) connect(parity);
  if (stages.size() == 2) return;
  const bool is_end = is_first() || is_last();
  auto group = stages.split(is_end ? 0 : stages.rank(), "ends of " + stages.name());
  if (is_end) ends_ = std::move(group);
}

// Stages 0 1 | 2 3 | ... are neighbours of parity 0, 0 | 1 2 | 3 4 | ... of parity 1.
void Pipeline::connect(int parity) {
  const int stage = stages_->rank(), pair = (stage + parity) / 2;
  const auto link = [&](const char* what) {
    return std::make_unique<Link>(stages_->split(
        pair, fmt::format("{} of {} behind stage {}", what, stages_->name(), 2 * pair - parity)));
  };
  Links links{link("rows"), link("gradients")};
  const bool is_upper = (stage + parity) % 2 == 1;
  const bool has_partner = is_upper ? stage > 0 : !is_last();
  if (has_partner) (is_upper ? before_ : behind_) = std::move(links);
}

int64_t Pipeline::bytes_sent() const {
  int64_t bytes = stages_->traffic().bytes_sent;
  if (behind_) bytes += behind_->rows->bytes_sent();
  if (before_) bytes += before_->gradients->bytes_sent();
  return ends_ ? bytes + ends_->traffic().bytes_sent : bytes;
}

}  // namespace switchyard::parallel
