#include "parallel/watchdog.h"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/base/errors.h"
#include "core/base/seconds.h"
#include "parallel/flight_report.h"

namespace switchyard::parallel {
namespace {

using Clock = std::chrono::steady_clock;

// Lines of the flight recorder in a failure's message.
constexpr uint64_t kLinesInMessage = 16;

bool agree(const Signature& theirs, const Record& ours) {
  if (theirs.kind != ours.kind || theirs.root != ours.root) return false;
  return ours.kind == OperationKind::kAllToAllV || theirs.bytes_out == ours.bytes_out;
}

// Whether a member that published `started` last has left the group: its place has another base.
bool has_left(uint64_t started, const Member& member) {
  return started > (member.base | kSequenceMask);
}

// One line for each of the latest `count` operations, oldest first.
std::string describe_latest(const RankBoard& board, uint64_t count) {
  std::string text;
  const uint64_t last = board.num_recorded.load(std::memory_order_acquire);
  Record record;
  for (uint64_t id = last - std::min(last, count) + 1; id <= last; ++id) {
    if (!read_record(board, id, record)) continue;
    text += fmt::format("  {:9.3f} s ago  {} #{} '{}' of {}, {} B out, {} B in: {}\n",
                        static_cast<double>(now_ns() - record.start) * 1e-9, name_of(record.kind),
                        record.sequence, record.what.data(), record.group.data(), record.bytes_out,
                        record.bytes_in, name_of(record.state));
  }
  return text;
}

RankBoard& required(RankBoard* board, int rank) {
  SY_CHECK(board != nullptr, "rank {} has no board of its own", rank);
  return *board;
}

}  // namespace

RankWatch::RankWatch(int world_rank, std::vector<RankBoard*> boards)
    : world_rank_(world_rank),
      boards_(std::move(boards)),
      activity_(required(boards_.at(world_rank), world_rank).whereabouts) {
  publish_process(own());
}

int RankWatch::take_slot(std::string_view group_name) {
  const std::lock_guard lock(mutex_);
  const auto free = std::find(used_.begin(), used_.end(), false);
  if (free == used_.end()) {
    throw CommError(fmt::format("group {}: a rank can be in {} groups at a time, and is in all",
                                group_name, RankBoard::kGroups));
  }
  *free = true;
  const int slot = static_cast<int>(free - used_.begin());
  GroupBoard& board = own().groups[slot];
  publish(board.name, cut(group_name));
  const uint64_t base = board.started & ~kSequenceMask;
  board.finished = base;
  board.started = base;
  return slot;
}

void RankWatch::release_slot(int slot) {
  const std::lock_guard lock(mutex_);
  own().groups[slot].size = 0;
  own().groups[slot].started += kSequenceMask + 1;  // the next group's base
  used_[slot] = false;
}

BoardSlot::BoardSlot(std::shared_ptr<RankWatch> watch, std::string_view group_name)
    : watch_(std::move(watch)), index_(watch_->take_slot(group_name)), base_(board().started) {}

BoardSlot::~BoardSlot() {
  if (watch_) watch_->release_slot(index_);
}

GroupWatch::GroupWatch(BoardSlot slot, std::string name, std::vector<Member> members,
                       double timeout_seconds)
    : slot_(std::move(slot)),
      name_(std::move(name)),
      members_(std::move(members)),
      rank_(0),
      timeout_(timeout_seconds) {
  while (members_.at(rank_).world_rank != slot_.watch().world_rank()) ++rank_;
  slot_.board().size = size();
}

Ticket GroupWatch::start(const Operation& operation) {
  GroupBoard& board = slot_.board();
  const uint64_t sequence = board.started.load(std::memory_order_relaxed) + 1;
  Record record{.kind = operation.kind,
                .state = Record::State::kStarted,
                .sequence = sequence & kSequenceMask,
                .bytes_out = operation.bytes_out,
                .bytes_in = operation.bytes_in,
                .root = operation.root,
                .whereabouts = read(slot_.watch().own().whereabouts),
                .what = cut(operation.what),
                .group = cut(name_),
                .start = now_ns()};
  publish(board, sequence, operation);
  RankBoard& own = slot_.watch().own();
  own.latest.store(slot_.member().slot, std::memory_order_release);
  own.working_on[0].store(0, std::memory_order_release);
  return Ticket{record, add_record(own, record)};
}

void GroupWatch::finish(const Ticket& ticket) {
  const std::string disagreement = find_disagreement(ticket.record);
  if (!disagreement.empty()) {
    fail(ticket, fmt::format("ranks call different operations: {}", disagreement));
  }
  slot_.board().finished.fetch_add(1, std::memory_order_release);
  set_state(slot_.watch().own(), ticket.id, Record::State::kFinished);
}

void GroupWatch::beat(std::string_view working_on) {
  RankBoard& own = slot_.watch().own();
  publish(own.working_on, cut(working_on));
  own.beats.fetch_add(1, std::memory_order_release);
}

Wait GroupWatch::begin_wait(const Ticket& ticket) {
  set_state(slot_.watch().own(), ticket.id, Record::State::kAwaited);
  const auto now = Clock::now();
  return {now, now + std::chrono::duration_cast<Clock::duration>(timeout()), num_beats()};
}

void GroupWatch::end_wait(const Wait& wait) {
  slot_.watch().activity().add_wait(seconds_since(wait.start));
}

void GroupWatch::check(const Ticket& ticket, Wait& wait) {
  for (const Member& member : members_) {
    const RankBoard* board = slot_.watch().board(member.world_rank);
    if (board != nullptr && is_gone(*board))
      fail(ticket,
           fmt::format("rank {} has died (process {})", member.world_rank, board->process.load()));
  }
  if (Clock::now() < wait.deadline) return;
  const uint64_t beats = num_beats();
  if (beats == wait.beats)
    give_up(ticket, fmt::format("not complete after {:.1f} s", seconds_since(wait.start)));
  wait.beats = beats;
  wait.deadline = Clock::now() + std::chrono::duration_cast<Clock::duration>(timeout());
}

uint64_t GroupWatch::num_beats() const {
  uint64_t beats = 0;
  for (const Member& member : members_) {
    const RankBoard* board = slot_.watch().board(member.world_rank);
    if (board != nullptr) beats += board->beats.load(std::memory_order_acquire);
  }
  return beats;
}

void GroupWatch::give_up(const Ticket& ticket, std::string_view reason) {
  fail(ticket, fmt::format("{}; {}", reason, describe_missing(ticket.record)));
}

void GroupWatch::fail(const Ticket& ticket, std::string_view reason) {
  has_failed_ = true;
  // While this rank still is in the operation, for those who read.
  write_flight_records(FlightReport::kBegin);
  RankBoard& own = slot_.watch().own();
  set_state(own, ticket.id, Record::State::kFailed);
  const Record& record = ticket.record;
  throw CommError(fmt::format(
      "{} #{} '{}' of {}, {} B out, {} B in: {}\nranks of {}:\n{}last operations of rank {}:\n{}",
      name_of(record.kind), record.sequence, record.what.data(), name_, record.bytes_out,
      record.bytes_in, reason, name_, describe_ranks(), slot_.watch().world_rank(),
      describe_latest(own, kLinesInMessage)));
}

const GroupBoard* GroupWatch::board_of(const Member& member) const {
  const RankBoard* board = slot_.watch().board(member.world_rank);
  return board == nullptr ? nullptr : &board->groups[member.slot];
}

std::string GroupWatch::find_disagreement(const Record& record) const {
  for (const Member& member : members_) {
    const GroupBoard* board = board_of(member);
    if (board == nullptr) continue;
    const Signature theirs = read_signature(*board, member.base + record.sequence);
    if (theirs.sequence == 0 || agree(theirs, record)) continue;
    return fmt::format("rank {} is in {} #{} '{}' with {} B, root {}; expected {} B, root {}",
                       member.world_rank, name_of(theirs.kind), record.sequence, theirs.what.data(),
                       theirs.bytes_out, theirs.root, record.bytes_out, record.root);
  }
  return {};
}

std::string GroupWatch::describe_missing(const Record& record) const {
  std::vector<int> missing, left, unknown;
  for (const Member& member : members_) {
    const GroupBoard* board = board_of(member);
    const uint64_t started = board ? board->started.load(std::memory_order_acquire) : 0;
    if (board == nullptr) {
      unknown.push_back(member.world_rank);
    } else if (has_left(started, member)) {
      left.push_back(member.world_rank);
    } else if (started < member.base + record.sequence) {
      missing.push_back(member.world_rank);
    }
  }
  std::string text;
  if (!missing.empty()) {
    text = fmt::format(
        "missing: rank {} (see what it does below; if it is only slow, raise "
        "runtime.timeout_seconds)",
        fmt::join(missing, ", rank "));
  } else if (const std::string disagreement = find_disagreement(record); !disagreement.empty()) {
    text = fmt::format("ranks call different operations: {}", disagreement);
  } else if (!left.empty()) {
    text = fmt::format("no longer in {}: rank {}", name_, fmt::join(left, ", rank "));
  } else {
    text = "every rank of this node has begun it";
  }
  if (!unknown.empty()) {
    text += fmt::format("; not known, on other nodes: rank {}", fmt::join(unknown, ", rank "));
  }
  return text;
}

std::string GroupWatch::describe_ranks() const {
  std::string text;
  for (const Member& member : members_) {
    const RankBoard* board = slot_.watch().board(member.world_rank);
    text += fmt::format("  rank {}: ", member.world_rank);
    if (board == nullptr) {
      text += "on another node\n";
    } else {
      text += fmt::format("{}{}\n", is_gone(*board) ? "dead; was " : "",
                          describe_activity(*board).view());
    }
  }
  return text;
}

std::unique_ptr<GroupWatch> split_watch(Communicator& parent, const GroupWatch& parent_watch,
                                        int color, const std::string& name) {
  SY_CHECK(color >= 0, "split of {}: color {} of {} is negative", parent.name(), color, name);
  struct Choice {
    int64_t color;
    Member member;
  };
  BoardSlot slot(parent_watch.rank_watch(), name);
  const Choice own{color, slot.member()};
  std::vector<Choice> choices(parent.size());
  parent.all_gather(&own, choices.data(), sizeof own, "split");  // `name` is not the same for all
  std::vector<Member> members;
  for (const Choice& choice : choices) {
    if (choice.color == color) members.push_back(choice.member);
  }
  return std::make_unique<GroupWatch>(std::move(slot), name, std::move(members),
                                      parent_watch.timeout().count());
}

}  // namespace switchyard::parallel
