// The order of a pipeline's work, carried out without ranks: mailboxes in place of communicators.

#include "trainer/pipeline_order.h"

#include <algorithm>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include <gmock/gmock.h>

namespace switchyard::trainer {
namespace {

using ::testing::ElementsAre;
using enum Action::Kind;

// What is on its way between two stages: one micro-batch, until the receiver takes it.
struct Mailbox {
  int64_t content = -1;

  bool is_empty() const { return content < 0; }
};

class Stage {
 public:
  Stage(const Place& place, int64_t micro_batches) : order_(pipeline_order(place, micro_batches)) {}

  bool is_done() const { return next_ == order_.size(); }
  // Carries out the next action, unless it must wait for a neighbour.
  bool advance(Mailbox& rows_in, Mailbox& rows_out, Mailbox& gradient_in, Mailbox& gradient_out) {
    const auto& [kind, i] = order_[next_];
    switch (kind) {
      case kReceiveRows:
        return take(rows_in, i, received_);
      case kForward:
        EXPECT_EQ(i, std::ssize(forward_));
        forward_.push_back(i);
        break;
      case kSendRows:
        return put(rows_out, i, forward_);
      case kReceiveGradient:
        return take(gradient_in, i, gradients_);
      case kBackward:
        EXPECT_EQ(i, std::ssize(backward_));
        EXPECT_LT(i, std::ssize(forward_));
        backward_.push_back(i);
        break;
      case kSendGradient:
        return put(gradient_out, i, backward_);
    }
    most_in_flight_ = std::max(most_in_flight_, std::ssize(forward_) - std::ssize(backward_));
    ++next_;
    return true;
  }

  std::vector<int64_t> received_, forward_, gradients_, backward_;  // micro-batches, as they came
  int64_t most_in_flight_ = 0;

 private:
  bool take(Mailbox& from, int64_t i, std::vector<int64_t>& taken) {
    if (from.is_empty()) return false;
    EXPECT_EQ(from.content, i);
    taken.push_back(from.content);
    from.content = -1;
    ++next_;
    return true;
  }
  bool put(Mailbox& into, int64_t i, const std::vector<int64_t>& made) {
    if (!into.is_empty()) return false;
    EXPECT_THAT(made, ::testing::Contains(i));
    into.content = i;
    ++next_;
    return true;
  }

  std::vector<Action> order_;
  size_t next_ = 0;
};

std::vector<Stage> run(int stages, int64_t micro_batches) {
  std::vector<Stage> pipeline;
  for (int s = 0; s < stages; ++s) pipeline.emplace_back(Place{s, stages}, micro_batches);
  std::vector<Mailbox> rows(stages + 1), gradients(stages + 1);  // before each stage
  for (bool moves = true; moves;) {
    moves = false;
    for (int s = 0; s < stages; ++s)
      while (!pipeline[s].is_done() &&
             pipeline[s].advance(rows[s], rows[s + 1], gradients[s + 1], gradients[s]))
        moves = true;
  }
  return pipeline;
}

std::vector<int64_t> in_order(int64_t count) {
  std::vector<int64_t> numbers(count);
  for (int64_t i = 0; i < count; ++i) numbers[i] = i;
  return numbers;
}

TEST(PipelineOrder, EndsOnEveryStageWithEveryMicroBatchOnceForwardAndOnceBackward) {
  for (int stages = 1; stages <= 9; ++stages) {
    for (int64_t micro_batches = 1; micro_batches <= 20; ++micro_batches) {
      SCOPED_TRACE(std::to_string(stages) + " stages, " + std::to_string(micro_batches));
      const std::vector<Stage> pipeline = run(stages, micro_batches);
      for (int s = 0; s < stages; ++s) {
        ASSERT_TRUE(pipeline[s].is_done()) << "stage " << s << " waits for ever";
        EXPECT_EQ(pipeline[s].forward_, in_order(micro_batches));
        EXPECT_EQ(pipeline[s].backward_, in_order(micro_batches));
        EXPECT_EQ(pipeline[s].received_, in_order(s > 0 ? micro_batches : 0));
        EXPECT_EQ(pipeline[s].gradients_, in_order(s + 1 < stages ? micro_batches : 0));
        EXPECT_EQ(pipeline[s].most_in_flight_, std::min<int64_t>(stages - s, micro_batches));
      }
    }
  }
}

// When the last stage is done, where a forward pass takes 1, a backward pass 2 and a transfer
// nothing.
int64_t makespan(int stages, int64_t micro_batches) {
  std::map<std::tuple<bool, int, int64_t>, int64_t> arrival;  // of rows or not, at a stage
  std::vector<std::vector<Action>> orders;
  for (int s = 0; s < stages; ++s) orders.push_back(pipeline_order({s, stages}, micro_batches));
  std::vector<int64_t> clock(stages, 0);
  std::vector<size_t> next(stages, 0);
  for (bool moves = true; moves;) {
    moves = false;
    for (int s = 0; s < stages; ++s) {
      for (; next[s] < orders[s].size(); ++next[s], moves = true) {
        const auto& [kind, i] = orders[s][next[s]];
        if (kind == kReceiveRows || kind == kReceiveGradient) {
          const auto sent = arrival.find({kind == kReceiveRows, s, i});
          if (sent == arrival.end()) break;
          clock[s] = std::max(clock[s], sent->second);
        }
        if (kind == kSendRows) arrival[{true, s + 1, i}] = clock[s];
        if (kind == kSendGradient) arrival[{false, s - 1, i}] = clock[s];
        clock[s] += kind == kForward ? 1 : kind == kBackward ? 2 : 0;
      }
    }
  }
  return std::ranges::max(clock);
}

// What models/inspect/step_estimate.h and describe_stages() say.
TEST(PipelineOrder, WaitsAsLongAsAllOtherStagesTakeForOneMicroBatch) {
  for (int stages = 1; stages <= 8; ++stages)
    for (const int64_t micro_batches : {1, 2, 7, 8, 32})
      EXPECT_EQ(makespan(stages, micro_batches), 3 * (micro_batches + stages - 1))
          << stages << " stages, " << micro_batches << " micro-batches";
}

TEST(PipelineOrder, TakesTurnsOnOneStage) {
  EXPECT_THAT(pipeline_order({0, 1}, 2), ElementsAre(Action{kForward, 0}, Action{kBackward, 0},
                                                     Action{kForward, 1}, Action{kBackward, 1}));
}

TEST(PipelineOrder, BeginsWithAForwardPassForEachStageBehind) {
  EXPECT_THAT(pipeline_order({0, 2}, 3),
              ElementsAre(Action{kForward, 0}, Action{kSendRows, 0}, Action{kForward, 1},
                          Action{kSendRows, 1}, Action{kReceiveGradient, 0}, Action{kBackward, 0},
                          Action{kForward, 2}, Action{kSendRows, 2}, Action{kReceiveGradient, 1},
                          Action{kBackward, 1}, Action{kReceiveGradient, 2}, Action{kBackward, 2}));
  EXPECT_THAT(pipeline_order({1, 2}, 1),
              ElementsAre(Action{kReceiveRows, 0}, Action{kForward, 0}, Action{kBackward, 0},
                          Action{kSendGradient, 0}));
}

}  // namespace
}  // namespace switchyard::trainer
