#include "parallel/watchdog.h"

#include <sys/wait.h>
#include <unistd.h>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/errors.h"

namespace switchyard::parallel {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using testing::ThrowsMessage;

constexpr Operation kGather{.kind = OperationKind::kAllGather, .what = "eval", .bytes_out = 8};

// The two ranks of one node, and a third elsewhere.
class Watch : public testing::Test {
 protected:
  std::shared_ptr<RankWatch> rank_watch(int rank) {
    return std::make_shared<RankWatch>(rank,
                                       std::vector<RankBoard*>{&boards_[0], &boards_[1], nullptr});
  }
  // No time to wait: every check finds the deadline passed.
  GroupWatch group(BoardSlot slot, std::vector<Member> members) {
    return GroupWatch(std::move(slot), "world", std::move(members), 0);
  }

  RankBoard boards_[2] = {};
};

TEST_F(Watch, SaysWhichRanksItCannotSee) {
  auto world = group(BoardSlot(rank_watch(0), "world"), {{0, 0, 0}, {1, 0, 0}, {2, 0, 0}});
  const Ticket ticket = world.start(kGather);
  Wait wait = world.begin_wait(ticket);
  EXPECT_THAT([&] { world.check(ticket, wait); },
              ThrowsMessage<CommError>(AllOf(
                  HasSubstr("all_gather #1 'eval' of world"), HasSubstr("missing: rank 1 "),
                  HasSubstr("not known, on other nodes: rank 2"), HasSubstr("rank 2: on another"),
                  HasSubstr("rank 1: outside any collective, has begun none yet"))));
}

TEST_F(Watch, AcceptsEqualOperationsAndRefusesOthersWithTheSameNumber) {
  auto first = group(BoardSlot(rank_watch(0), "world"), {{0, 0, 0}, {1, 0, 0}});
  auto second = group(BoardSlot(rank_watch(1), "world"), {{0, 0, 0}, {1, 0, 0}});
  second.start(kGather);
  first.finish(first.start(kGather));
  second.start({.kind = OperationKind::kAllGather, .what = "eval", .bytes_out = 16});
  const Ticket ticket = first.start(kGather);
  EXPECT_THAT([&] { first.finish(ticket); },
              ThrowsMessage<CommError>(HasSubstr(
                  "ranks call different operations: rank 1 is in all_gather #2 'eval' with 16 B")));
  EXPECT_TRUE(first.has_failed());
}

TEST_F(Watch, SaysWhoHasDiedBeforeTheDeadline) {
  auto world = GroupWatch(BoardSlot(rank_watch(0), "world"), "world", {{0, 0, 0}, {1, 0, 0}}, 600);
  auto second = group(BoardSlot(rank_watch(1), "world"), {{0, 0, 0}, {1, 0, 0}});
  second.start({.kind = OperationKind::kBarrier, .what = "before"});
  const Ticket ticket = world.start(kGather);
  Wait wait = world.begin_wait(ticket);
  EXPECT_NO_THROW(world.check(ticket, wait));

  const pid_t child = ::fork();
  if (child == 0) ::_exit(0);
  ASSERT_EQ(::waitpid(child, nullptr, 0), child);
  boards_[1].process = child;
  EXPECT_THAT([&] { world.check(ticket, wait); },
              ThrowsMessage<CommError>(
                  AllOf(HasSubstr(fmt::format("rank 1 has died (process {})", child)),
                        HasSubstr("rank 1: dead; was in barrier #1 'before' of world"))));
}

TEST_F(Watch, WaitsOnForARankThatGetsOn) {
  auto first = group(BoardSlot(rank_watch(0), "world"), {{0, 0, 0}, {1, 0, 0}});
  auto second = group(BoardSlot(rank_watch(1), "world"), {{0, 0, 0}, {1, 0, 0}});
  second.start(kGather);
  const Ticket ticket = first.start(kGather);
  Wait wait = first.begin_wait(ticket);
  second.beat("fsync weights-00001-of-00002.safetensors");
  EXPECT_NO_THROW(first.check(ticket, wait));
  EXPECT_THAT(
      [&] { first.check(ticket, wait); },
      ThrowsMessage<CommError>(HasSubstr("rank 1: in all_gather #1 'eval' of world; "
                                         "at work: fsync weights-00001-of-00002.safetensors")));
}

// Its place on the board has greater numbers by then, which are not this group's.
TEST_F(Watch, KnowsThatARankHasLeftTheGroup) {
  auto world = group(BoardSlot(rank_watch(0), "world"), {{0, 0, 0}, {1, 0, 0}});
  { const BoardSlot left(rank_watch(1), "world"); }
  const Ticket ticket = world.start(kGather);
  Wait wait = world.begin_wait(ticket);
  EXPECT_THAT([&] { world.check(ticket, wait); },
              ThrowsMessage<CommError>(
                  AllOf(HasSubstr("no longer in world: rank 1"), Not(HasSubstr("has begun it")))));
}

// A late reader of an operation must not see a newer group in the same place instead.
TEST_F(Watch, DoesNotMistakeANewGroupForTheOneBeforeInItsSlot) {
  const auto neighbour = rank_watch(1);
  Member old_place{};
  {
    BoardSlot slot(neighbour, "old");
    old_place = slot.member();
  }
  BoardSlot slot(neighbour, "new");
  EXPECT_EQ(slot.member().slot, old_place.slot);
  EXPECT_NE(slot.member().base, old_place.base);
  const Member new_place = slot.member();
  auto newer = group(std::move(slot), {new_place});
  newer.start({.kind = OperationKind::kBarrier, .what = "other"});

  BoardSlot own(rank_watch(0), "old");
  const Member own_place = own.member();
  auto old = group(std::move(own), {own_place, old_place});
  EXPECT_NO_THROW(old.finish(old.start(kGather)));
}

}  // namespace
}  // namespace switchyard::parallel
