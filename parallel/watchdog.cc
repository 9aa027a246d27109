#include "parallel/watchdog.h"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/base/errors.h"
#include "core/base/seconds.h"

namespace switchyard::parallel {
namespace {

using Clock = std::chrono::steady_clock;

// Lines of the flight recorder in a failure's message.
constexpr size_t kLinesInMessage = 16;
constexpr uint64_t kSequenceMask = (uint64_t{1} << kSequenceBits) - 1;

const char* name_of(OperationKind kind) {
  switch (kind) {
    case OperationKind::kNone:
      return "nothing";
    case OperationKind::kAllToAllV:
      return "all_to_all_v";
    case OperationKind::kAllGather:
      return "all_gather";
    case OperationKind::kBroadcast:
      return "broadcast";
    case OperationKind::kBarrier:
      return "barrier";
  }
  return "?";
}

const char* name_of(Record::State state) {
  switch (state) {
    case Record::State::kStarted:
      return "under way";
    case Record::State::kFinished:
      return "finished";
    case Record::State::kFailed:
      return "failed";
  }
  return "?";
}

std::array<char, 48> cut(std::string_view text) {
  std::array<char, 48> result{};
  text.copy(result.data(), result.size() - 1);
  return result;
}

void publish(SharedText& shared, const std::array<char, 48>& text) {
  static_assert(sizeof(SharedText) == sizeof text && std::atomic<uint64_t>::is_always_lock_free);
  for (size_t i = 0; i < shared.size(); ++i) {
    uint64_t word;
    std::memcpy(&word, text.data() + i * sizeof word, sizeof word);
    shared[i].store(word, std::memory_order_release);
  }
}

std::array<char, 48> read(const SharedText& shared) {
  std::array<char, 48> text{};
  for (size_t i = 0; i < shared.size(); ++i) {
    const uint64_t word = shared[i].load(std::memory_order_acquire);
    std::memcpy(text.data() + i * sizeof word, &word, sizeof word);
  }
  text.back() = '\0';
  return text;
}

// The part of an operation that its ranks must agree on, and its name.
struct Signature {
  uint64_t sequence = 0;  // 0: not known
  OperationKind kind = OperationKind::kNone;
  int64_t bytes_out = 0;
  int root = -1;
  std::array<char, 48> what{};

  bool agrees_with(const Record& record) const {
    if (kind != record.kind || root != record.root) return false;
    return kind == OperationKind::kAllToAllV || bytes_out == record.bytes_out;
  }
  // "all_gather #17 'eval'"
  std::string text() const {
    return fmt::format("{} #{} '{}'", name_of(kind), sequence & kSequenceMask, what.data());
  }
};

// Sequence 0 when the entry has been overwritten or is being written.
Signature read_signature(const GroupBoard& board, uint64_t sequence) {
  const PublishedOperation& entry = board.recent[sequence % GroupBoard::kRecent];
  if (entry.sequence.load(std::memory_order_acquire) != sequence) return {};
  Signature result{sequence, static_cast<OperationKind>(entry.kind.load(std::memory_order_acquire)),
                   entry.bytes_out.load(std::memory_order_acquire),
                   entry.root.load(std::memory_order_acquire), read(entry.what)};
  return entry.sequence.load(std::memory_order_acquire) == sequence ? result : Signature{};
}

// Readers check `sequence` before and after: fields are written while it is 0.
void publish(GroupBoard& board, uint64_t sequence, const Record& record) {
  PublishedOperation& entry = board.recent[sequence % GroupBoard::kRecent];
  entry.sequence.store(0, std::memory_order_relaxed);
  entry.kind.store(static_cast<uint32_t>(record.kind), std::memory_order_release);
  entry.root.store(record.root, std::memory_order_release);
  entry.bytes_out.store(record.bytes_out, std::memory_order_release);
  publish(entry.what, record.what);
  entry.sequence.store(sequence, std::memory_order_release);
  board.started.store(sequence, std::memory_order_release);
}

// "in all_gather #17 'eval' of world", for the operation that a rank began last in any group.
std::string describe_activity(const RankBoard& board) {
  const uint32_t latest = board.latest.load(std::memory_order_acquire);
  if (latest >= RankBoard::kGroups) return "unknown";
  const GroupBoard& group = board.groups[latest];
  const uint64_t started = group.started.load(std::memory_order_acquire);
  if ((started & kSequenceMask) == 0) return "outside any collective, has begun none yet";
  const Signature last = read_signature(group, started);
  if (last.sequence == 0) return "outside any collective, has left the group of its last one";
  const bool is_inside = group.finished.load(std::memory_order_acquire) < started;
  return fmt::format("{} {} of {}", is_inside ? "in" : "outside any collective, the last was",
                     last.text(), read(group.name).data());
}

}  // namespace

uint64_t FlightRecorder::add(const Record& record) {
  const std::lock_guard lock(mutex_);
  ring_[added_ % kRecords] = record;
  return added_++;
}

void FlightRecorder::set_state(uint64_t id, Record::State state) {
  const std::lock_guard lock(mutex_);
  if (added_ - id <= kRecords) ring_[id % kRecords].state = state;
}

std::string FlightRecorder::describe(size_t count) const {
  const std::lock_guard lock(mutex_);
  std::string text;
  for (uint64_t id = added_ - std::min<uint64_t>({count, added_, kRecords}); id < added_; ++id) {
    const Record& record = ring_[id % kRecords];
    text += fmt::format("  {:9.3f} s ago  {} #{} '{}' of {}, {} B out, {} B in: {}\n",
                        seconds_since(record.start), name_of(record.kind), record.sequence,
                        record.what.data(), record.group.data(), record.bytes_out, record.bytes_in,
                        name_of(record.state));
  }
  return text;
}

RankWatch::RankWatch(int world_rank, std::vector<RankBoard*> boards)
    : world_rank_(world_rank), boards_(std::move(boards)) {
  SY_CHECK(boards_.at(world_rank) != nullptr, "rank {} has no board of its own", world_rank);
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
      timeout_seconds_(timeout_seconds) {
  while (members_.at(rank_).world_rank != slot_.watch().world_rank()) ++rank_;
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
                .what = cut(operation.what),
                .group = cut(name_),
                .start = Clock::now()};
  publish(board, sequence, record);
  slot_.watch().own().latest.store(slot_.member().slot, std::memory_order_release);
  return Ticket{record, slot_.watch().recorder().add(record)};
}

void GroupWatch::finish(const Ticket& ticket) {
  const std::string disagreement = find_disagreement(ticket.record);
  if (!disagreement.empty()) {
    fail(ticket, fmt::format("ranks call different operations: {}", disagreement));
  }
  slot_.board().finished.fetch_add(1, std::memory_order_release);
  slot_.watch().recorder().set_state(ticket.id, Record::State::kFinished);
}

bool GroupWatch::is_expired(Clock::time_point wait_start) const {
  return seconds_since(wait_start) > timeout_seconds_;
}

void GroupWatch::give_up(const Ticket& ticket, std::string_view reason) {
  fail(ticket, fmt::format("{}; {}", reason, describe_missing(ticket.record)));
}

void GroupWatch::expire(const Ticket& ticket, Clock::time_point wait_start) {
  give_up(ticket, fmt::format("not complete after {:.1f} s", seconds_since(wait_start)));
}

void GroupWatch::fail(const Ticket& ticket, std::string_view reason) {
  has_failed_ = true;
  FlightRecorder& recorder = slot_.watch().recorder();
  recorder.set_state(ticket.id, Record::State::kFailed);
  const Record& record = ticket.record;
  throw CommError(fmt::format(
      "{} #{} '{}' of {}, {} B out, {} B in: {}\nranks of {}:\n{}last operations of rank {}:\n{}",
      name_of(record.kind), record.sequence, record.what.data(), name_, record.bytes_out,
      record.bytes_in, reason, name_, describe_ranks(), slot_.watch().world_rank(),
      recorder.describe(kLinesInMessage)));
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
    if (theirs.sequence == 0 || theirs.agrees_with(record)) continue;
    return fmt::format("rank {} is in {} with {} B, root {}; expected {} B, root {}",
                       member.world_rank, theirs.text(), theirs.bytes_out, theirs.root,
                       record.bytes_out, record.root);
  }
  return {};
}

std::string GroupWatch::describe_missing(const Record& record) const {
  std::vector<int> missing, unknown;
  for (const Member& member : members_) {
    const GroupBoard* board = board_of(member);
    if (board == nullptr) {
      unknown.push_back(member.world_rank);
    } else if (board->started.load(std::memory_order_acquire) < member.base + record.sequence) {
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
    text += fmt::format("  rank {}: {}\n", member.world_rank,
                        board == nullptr ? "on another node" : describe_activity(*board));
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
  parent.all_gather(&own, choices.data(), sizeof own, fmt::format("split {}", name).c_str());
  std::vector<Member> members;
  for (const Choice& choice : choices) {
    if (choice.color == color) members.push_back(choice.member);
  }
  return std::make_unique<GroupWatch>(std::move(slot), name, std::move(members),
                                      parent_watch.timeout_seconds());
}

}  // namespace switchyard::parallel
