#pragma once
// What a rank shows to its neighbours, in memory that they share, although it may be stuck or dead:
// plain lock-free atomics, all zero at first, so that a zeroed shared window is a valid board.
// Written by one rank, read by any. Nothing here allocates or locks, so that the handler of a crash
// can read a board too.

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace switchyard::parallel {

enum class OperationKind : uint32_t { kNone, kAllToAllV, kAllGather, kBroadcast, kBarrier };

// One collective as a rank calls it.
struct Operation {
  OperationKind kind = OperationKind::kNone;
  std::string_view what;
  int64_t bytes_out = 0;  // sent by this rank; the message's size for broadcast
  int64_t bytes_in = 0;
  int root = -1;  // broadcast only
};

using SharedText = std::array<std::atomic<uint64_t>, 6>;  // 47 bytes and a terminator

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

struct GroupBoard {
  static constexpr int kRecent = 8;
  std::atomic<uint64_t> started;   // sequence number of the operation begun last
  std::atomic<uint64_t> finished;  // grows by one with every operation completed
  SharedText name;
  std::array<PublishedOperation, kRecent> recent;  // at sequence % kRecent
};

struct RankBoard {
  static constexpr int kGroups = 64;
  std::atomic<uint32_t> latest;  // the group of the operation begun last
  std::array<GroupBoard, kGroups> groups;
  // Process id, which means something in its namespace alone (an inode number). 0: not known.
  std::atomic<uint64_t> process_namespace;
  std::atomic<int32_t> process;
  // Work outside collectives that shows how it gets on, as a save does: grows with every piece
  // done.
  std::atomic<uint64_t> beats;
  SharedText working_on;  // empty: nothing of the kind
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

// Writes what the rank is doing, zero-terminated, cut if `out` is shorter:
// "in all_gather #17 'eval' of world".
void describe_activity(const RankBoard& board, std::span<char> out);

// Notes this process on its board, before others look.
void publish_process(RankBoard& board);
// Whether the board's process has ended. False where that cannot be told.
bool is_gone(const RankBoard& board);

}  // namespace switchyard::parallel
