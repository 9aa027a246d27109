#include "trainer/pipeline_order.h"

#include <algorithm>

namespace switchyard::trainer {

std::vector<Action> pipeline_order(const Place& stage, int64_t micro_batches) {
  using enum Action::Kind;
  const bool is_first = stage.index == 0, is_last = stage.index == stage.size - 1;
  std::vector<Action> order;
  const auto forward = [&](int64_t i) {
    if (!is_first) order.push_back({kReceiveRows, i});
    order.push_back({kForward, i});
    if (!is_last) order.push_back({kSendRows, i});
  };
  const auto backward = [&](int64_t i) {
    if (!is_last) order.push_back({kReceiveGradient, i});
    order.push_back({kBackward, i});
    if (!is_first) order.push_back({kSendGradient, i});
  };
  const int64_t ahead = std::min<int64_t>(stage.size - stage.index - 1, micro_batches);
  for (int64_t i = 0; i < ahead; ++i) forward(i);
  for (int64_t i = 0; i < micro_batches; ++i) {
    if (ahead + i < micro_batches) forward(ahead + i);
    backward(i);
  }
  return order;
}

}  // namespace switchyard::trainer
