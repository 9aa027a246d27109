#include "parallel/board.h"

#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include <fmt/format.h>

namespace switchyard::parallel {
namespace {

// Process ids are compared within one namespace: containers may share memory and yet count apart.
uint64_t own_process_namespace() {
  struct stat status {};
  return ::stat("/proc/self/ns/pid", &status) == 0 ? status.st_ino : 0;
}

}  // namespace

const char* name_of(OperationKind kind) {
  constexpr const char* kNames[] = {"nothing", "all_to_all_v", "all_gather", "broadcast",
                                    "barrier"};
  return kNames[static_cast<size_t>(kind)];
}

ShortText cut(std::string_view text) {
  ShortText result{};
  text.copy(result.data(), result.size() - 1);
  return result;
}

void publish(SharedText& shared, const ShortText& text) {
  static_assert(std::atomic<uint64_t>::is_always_lock_free);
  for (size_t i = 0; i < shared.size(); ++i) {
    uint64_t word;
    std::memcpy(&word, text.data() + i * sizeof word, sizeof word);
    shared[i].store(word, std::memory_order_release);
  }
}

ShortText read(const SharedText& shared) {
  ShortText text{};
  for (size_t i = 0; i < shared.size(); ++i) {
    const uint64_t word = shared[i].load(std::memory_order_acquire);
    std::memcpy(text.data() + i * sizeof word, &word, sizeof word);
  }
  text.back() = '\0';
  return text;
}

// Readers check `sequence` before and after: fields are written while it is 0.
void publish(GroupBoard& board, uint64_t sequence, const Operation& operation) {
  PublishedOperation& entry = board.recent[sequence % GroupBoard::kRecent];
  entry.sequence.store(0, std::memory_order_relaxed);
  entry.kind.store(static_cast<uint32_t>(operation.kind), std::memory_order_release);
  entry.root.store(operation.root, std::memory_order_release);
  entry.bytes_out.store(operation.bytes_out, std::memory_order_release);
  publish(entry.what, cut(operation.what));
  entry.sequence.store(sequence, std::memory_order_release);
  board.started.store(sequence, std::memory_order_release);
}

Signature read_signature(const GroupBoard& board, uint64_t sequence) {
  const PublishedOperation& entry = board.recent[sequence % GroupBoard::kRecent];
  if (entry.sequence.load(std::memory_order_acquire) != sequence) return {};
  Signature result{sequence, static_cast<OperationKind>(entry.kind.load(std::memory_order_acquire)),
                   entry.bytes_out.load(std::memory_order_acquire),
                   entry.root.load(std::memory_order_acquire), read(entry.what)};
  return entry.sequence.load(std::memory_order_acquire) == sequence ? result : Signature{};
}

// Tells of the operation that the rank began last in any group. fmt::format_to_n neither allocates
// nor locks for these arguments.
void describe_activity(const RankBoard& board, std::span<char> out) {
  const auto write = [&](auto format, const auto&... values) {
    *fmt::format_to_n(out.data(), out.size() - 1, format, values...).out = '\0';
  };
  const uint32_t latest = board.latest.load(std::memory_order_acquire);
  if (latest >= RankBoard::kGroups) return write(FMT_STRING("unknown"));
  const GroupBoard& group = board.groups[latest];
  const uint64_t started = group.started.load(std::memory_order_acquire);
  const ShortText working_on = read(board.working_on);
  const bool works = working_on[0] != '\0';
  if ((started & kSequenceMask) == 0)
    return write(FMT_STRING("outside any collective, has begun none yet"));
  const Signature last = read_signature(group, started);
  if (last.sequence == 0)
    return write(FMT_STRING("outside any collective, has left the group of its last one"));
  const bool is_inside = group.finished.load(std::memory_order_acquire) < started;
  write(FMT_STRING("{} {} #{} '{}' of {}{}{}"),
        is_inside ? "in" : "outside any collective, the last was", name_of(last.kind),
        started & kSequenceMask, last.what.data(), read(group.name).data(),
        works ? "; at work: " : "", working_on.data());
}

void publish_process(RankBoard& board) {
  board.process_namespace.store(own_process_namespace(), std::memory_order_release);
  board.process.store(::getpid(), std::memory_order_release);
}

bool is_gone(const RankBoard& board) {
  static const uint64_t here = own_process_namespace();
  const int32_t process = board.process.load(std::memory_order_acquire);
  if (process == 0 || here == 0 || board.process_namespace.load(std::memory_order_acquire) != here)
    return false;
  return ::kill(process, 0) != 0 && errno == ESRCH;
}

}  // namespace switchyard::parallel
