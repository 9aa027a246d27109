#pragma once
// What a rank shows to its neighbours, in memory that they share, although it may be stuck or dead:
// plain lock-free atomics, all zero at first, so that a zeroed shared window is a valid board.
// Written by one rank, read by any. Nothing here allocates or locks, so that the handler of a crash
// can read a board too.

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "parallel/fixed_text.h"

namespace switchyard::parallel {

// The last two are made of the others (parallel/host_reductions.h).
enum class OperationKind : uint32_t {
  kNone,
  kAllToAllV,
  kAllGather,
  kBroadcast,
  kBarrier,
  kReduceScatter,
  kAllReduce
};

// One collective as a rank calls it.
struct Operation {
  OperationKind kind = OperationKind::kNone;
  std::string_view what;
  int64_t bytes_out = 0;  // sent by this rank; the message's size for broadcast
  int64_t bytes_in = 0;
  int root = -1;  // broadcast only
};

// What a rank is at in training.
enum class Phase : int32_t {
  kBetweenSteps,
  kForward,
  kBackward,
  kReduction,
  kUpdate,
  kEvaluation,
  kSave
};
constexpr int kNumPhases = 7;
const char* name_of(Phase phase);  // "forward", ...

// What an operation is for: -1 where a phase has no such thing.
struct Whereabouts {
  Phase phase = Phase::kBetweenSteps;
  int64_t step = -1;  // counted from 1
  int32_t micro_batch = -1;
  int32_t layer = -1;
};

using SharedText = std::array<std::atomic<uint64_t>, 6>;  // 47 bytes and a terminator

// A Whereabouts with every number one greater, so that a zeroed one is of nothing.
struct PublishedWhereabouts {
  std::atomic<int64_t> step;
  std::atomic<int32_t> phase, micro_batch, layer;
};

// Sequence numbers on a board are `base + number`: a place on the board serves one group after
// another, each with a base of its own, so that a late reader does not take one group's operation
// for another's.
constexpr int kSequenceBits = 40;
constexpr uint64_t kSequenceMask = (uint64_t{1} << kSequenceBits) - 1;

struct PublishedOperation {
  std::atomic<uint64_t> sequence;  // 0: empty, or being written
  std::atomic<uint32_t> kind;
  std::atomic<int32_t> root;
  std::atomic<int64_t> bytes_out;
  SharedText what;
};

// One operation of the flight recorder.
struct PublishedRecord {
  std::atomic<uint64_t> id;  // counted from 1 over all groups; 0: empty, or being written
  std::atomic<uint64_t> sequence;
  std::atomic<uint32_t> kind, state;
  std::atomic<int32_t> root;
  std::atomic<int64_t> bytes_out, bytes_in;
  std::atomic<int64_t> start, end;  // nanoseconds of the steady clock; end 0: not over
  PublishedWhereabouts whereabouts;
  SharedText what, group;
};

struct GroupBoard {
  static constexpr int kRecent = 8;
  std::atomic<int32_t> size;       // members; 0: no group has this place
  std::atomic<uint64_t> started;   // sequence number of the operation begun last
  std::atomic<uint64_t> finished;  // grows by one with every operation completed
  SharedText name;
  std::array<PublishedOperation, kRecent> recent;  // at sequence % kRecent
};

struct RankBoard {
  static constexpr int kGroups = 64;
  static constexpr int kRecords = 256;
  std::atomic<uint32_t> latest;  // the group of the operation begun last
  std::array<GroupBoard, kGroups> groups;
  // Process id, which means something in its namespace alone (an inode number). 0: not known.
  std::atomic<uint64_t> process_namespace;
  std::atomic<int32_t> process;
  // Work outside collectives that shows how it gets on, as a save does: grows with every piece
  // done.
  std::atomic<uint64_t> beats;
  SharedText working_on;  // empty: nothing of the kind
  PublishedWhereabouts whereabouts;
  // The flight recorder: the last operations over all groups, at id % kRecords.
  std::atomic<uint64_t> num_recorded;
  std::array<PublishedRecord, kRecords> recorded;
  // When a file of this board was written last, nanoseconds of the steady clock. Set by whoever of
  // the node writes it, so that it is written once.
  std::atomic<int64_t> filed;
};

// A text that fits into SharedText: cut when longer, zero-terminated.
using ShortText = std::array<char, sizeof(SharedText)>;
ShortText cut(std::string_view text);
void publish(SharedText& shared, const ShortText& text);
ShortText read(const SharedText& shared);

const char* name_of(OperationKind kind);

// The part of an operation that its ranks must agree on, and its name.
struct Signature {
  uint64_t sequence = 0;  // with its base; 0: not known
  OperationKind kind = OperationKind::kNone;
  int64_t bytes_out = 0;
  int root = -1;
  ShortText what{};
};

// Begins `operation` on the board: sequence numbers are given as they stand there, with their base.
void publish(GroupBoard& board, uint64_t sequence, const Operation& operation);
// Sequence 0 when the entry has been overwritten or is being written.
Signature read_signature(const GroupBoard& board, uint64_t sequence);

// An operation in the flight recorder.
struct Record {
  enum class State : uint32_t { kStarted, kAwaited, kFinished, kFailed };
  OperationKind kind = OperationKind::kNone;
  State state = State::kStarted;
  uint64_t sequence = 0;  // without its base
  int64_t bytes_out = 0;
  int64_t bytes_in = 0;
  int root = -1;
  Whereabouts whereabouts = {};
  ShortText what = {};
  ShortText group = {};
  int64_t start = 0, end = 0;  // as in PublishedRecord
};
const char* name_of(Record::State state);  // "under way", ...

int64_t now_ns();  // of the steady clock, which all processes of a machine share

// The flight recorder may be added to by several threads: groups may be used by different ones.
// Returns the record's id.
uint64_t add_record(RankBoard& board, const Record& record);
// Does nothing where the record has been overwritten. The last two states end the operation.
void set_state(RankBoard& board, uint64_t id, Record::State state);
// False where the record has been overwritten or is being written.
bool read_record(const RankBoard& board, uint64_t id, Record& record);

void publish(PublishedWhereabouts& shared, const Whereabouts& whereabouts);
Whereabouts read(const PublishedWhereabouts& shared);

// What the rank is doing, cut where it is longer:
// "in all_gather #17 'eval' of world; step 3, forward, micro-batch 0, layer 5".
constexpr size_t kActivityBytes = 384;
FixedText<kActivityBytes> describe_activity(const RankBoard& board);

// Notes this process on its board, before others look.
void publish_process(RankBoard& board);
// Whether the board's process has ended. False where that cannot be told.
bool is_gone(const RankBoard& board);

}  // namespace switchyard::parallel
