#pragma once
// Deadlines and diagnosis. Each rank publishes what it does on a board that its neighbours can read
// although it is stuck (memory of the process for the thread backend, a shared window per node for
// MPI), with a flight recorder of its last operations. When a wait expires, the waiting rank
// reads the boards and says who is missing: the stuck rank needs to do nothing for that.

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "parallel/activity.h"
#include "parallel/board.h"
#include "parallel/communicator.h"

namespace switchyard::parallel {

// One per rank, shared by its groups.
class RankWatch {
 public:
  // boards: by world rank; null where the rank is on another node. All must outlive this.
  RankWatch(int world_rank, std::vector<RankBoard*> boards);

  int world_rank() const { return world_rank_; }
  RankBoard& own() { return *boards_[world_rank_]; }
  const RankBoard* board(int world_rank) const { return boards_[world_rank]; }
  const std::vector<RankBoard*>& boards() const { return boards_; }
  Activity& activity() { return activity_; }

  // Throws CommError when all slots are in use.
  int take_slot(std::string_view group_name);
  void release_slot(int slot);

 private:
  int world_rank_;
  std::vector<RankBoard*> boards_;
  Activity activity_;
  std::mutex mutex_;
  std::array<bool, RankBoard::kGroups> used_{};
};

// Where a member of a group publishes. Members exchange these when the group is made.
struct Member {
  int32_t world_rank;
  int32_t slot;
  uint64_t base;  // of its sequence numbers there
};

// A place for one group on this rank's board.
class BoardSlot {
 public:
  BoardSlot(std::shared_ptr<RankWatch> watch, std::string_view group_name);
  ~BoardSlot();
  BoardSlot(BoardSlot&& other) noexcept = default;

  RankWatch& watch() const { return *watch_; }
  const std::shared_ptr<RankWatch>& shared_watch() const { return watch_; }
  Member member() const { return {watch_->world_rank(), index_, base_}; }
  GroupBoard& board() const { return watch_->own().groups[index_]; }

 private:
  std::shared_ptr<RankWatch> watch_;
  int index_;
  uint64_t base_;
};

// An operation under way: keep it until finish() or fail().
struct Ticket {
  Record record;
  uint64_t id;
};

// One wait for an operation.
struct Wait {
  std::chrono::steady_clock::time_point start, deadline;
  uint64_t beats = 0;  // of the group, when the deadline was set
};

// A group as one of its ranks sees it: numbers its operations and explains the ones that hang.
class GroupWatch {
 public:
  // members: by rank in the group.
  GroupWatch(BoardSlot slot, std::string name, std::vector<Member> members, double timeout_seconds);

  const std::string& name() const { return name_; }
  int rank() const { return rank_; }  // in the group
  int size() const { return static_cast<int>(members_.size()); }
  const std::vector<Member>& members() const { return members_; }
  std::chrono::duration<double> timeout() const { return timeout_; }
  const std::shared_ptr<RankWatch>& rank_watch() const { return slot_.shared_watch(); }

  Ticket start(const Operation& operation);
  // The operation is complete here. Throws CommError when a neighbour's operation with the same
  // sequence number is another one or has another size: its data must not be used.
  void finish(const Ticket& ticket);
  // This rank, outside any collective, gets on with something long, such as a save: others' waits
  // begin anew. Call after each piece that may take a while.
  void beat(std::string_view working_on);

  // The deadline counts from when the rank began to wait: between start and wait it may compute.
  Wait begin_wait(const Ticket& ticket);
  // The wait was not in vain; its time counts as such.
  void end_wait(const Wait& wait);
  // To be called now and then during a wait. Throws CommError if a member on this node has died, or
  // if the deadline has passed without a beat of any; a beat moves the deadline.
  void check(const Ticket& ticket, Wait& wait);
  bool has_failed() const { return has_failed_; }
  // Throws CommError: the operation, `reason`, what every rank is doing, and this rank's last
  // operations.
  [[noreturn]] void fail(const Ticket& ticket, std::string_view reason);
  // Throws as fail() does for an operation that will not complete, and also says who is missing.
  [[noreturn]] void give_up(const Ticket& ticket, std::string_view reason);

 private:
  const GroupBoard* board_of(const Member& member) const;
  uint64_t num_beats() const;                                 // of the members on this node
  std::string find_disagreement(const Record& record) const;  // empty: none
  std::string describe_missing(const Record& record) const;
  std::string describe_ranks() const;

  BoardSlot slot_;
  std::string name_;
  std::vector<Member> members_;
  int rank_;
  std::chrono::duration<double> timeout_;
  bool has_failed_ = false;
};

// The watch of the group that Communicator::split makes. **Collective** over `parent`, one
// all_gather; `parent_watch` is the parent's.
std::unique_ptr<GroupWatch> split_watch(Communicator& parent, const GroupWatch& parent_watch,
                                        int color, const std::string& name);

}  // namespace switchyard::parallel
