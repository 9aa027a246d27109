#include "parallel/board.h"

#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>

namespace switchyard::parallel {
namespace {

// Process ids are compared within one namespace: containers may share memory and yet count apart.
uint64_t own_process_namespace() {
  struct stat status {};
  return ::stat("/proc/self/ns/pid", &status) == 0 ? status.st_ino : 0;
}

// Known before any handler of a signal asks.
const uint64_t process_namespace = own_process_namespace();

}  // namespace

const char* name_of(OperationKind kind) {
  constexpr const char* kNames[] = {"nothing", "all_to_all_v",   "all_gather", "broadcast",
                                    "barrier", "reduce_scatter", "all_reduce"};
  return kNames[static_cast<size_t>(kind)];
}

const char* name_of(Phase phase) {
  constexpr const char* kNames[] = {"between steps", "forward",    "backward", "reduction",
                                    "update",        "evaluation", "save"};
  return kNames[static_cast<size_t>(phase)];
}

const char* name_of(Record::State state) {
  constexpr const char* kNames[] = {"under way", "awaited", "finished", "failed"};
  return kNames[static_cast<size_t>(state)];
}

int64_t now_ns() {
  return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
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

void publish(PublishedWhereabouts& shared, const Whereabouts& whereabouts) {
  shared.step.store(whereabouts.step + 1, std::memory_order_relaxed);
  shared.phase.store(static_cast<int32_t>(whereabouts.phase), std::memory_order_relaxed);
  shared.micro_batch.store(whereabouts.micro_batch + 1, std::memory_order_relaxed);
  shared.layer.store(whereabouts.layer + 1, std::memory_order_relaxed);
}

Whereabouts read(const PublishedWhereabouts& shared) {
  return {static_cast<Phase>(shared.phase.load(std::memory_order_relaxed)),
          shared.step.load(std::memory_order_relaxed) - 1,
          shared.micro_batch.load(std::memory_order_relaxed) - 1,
          shared.layer.load(std::memory_order_relaxed) - 1};
}

uint64_t add_record(RankBoard& board, const Record& record) {
  const uint64_t id = board.num_recorded.fetch_add(1, std::memory_order_relaxed) + 1;
  PublishedRecord& entry = board.recorded[id % RankBoard::kRecords];
  entry.id.store(0, std::memory_order_relaxed);
  entry.sequence.store(record.sequence, std::memory_order_release);
  entry.kind.store(static_cast<uint32_t>(record.kind), std::memory_order_release);
  entry.state.store(static_cast<uint32_t>(record.state), std::memory_order_release);
  entry.root.store(record.root, std::memory_order_release);
  entry.bytes_out.store(record.bytes_out, std::memory_order_release);
  entry.bytes_in.store(record.bytes_in, std::memory_order_release);
  entry.start.store(record.start, std::memory_order_release);
  entry.end.store(record.end, std::memory_order_release);
  publish(entry.whereabouts, record.whereabouts);
  publish(entry.what, record.what);
  publish(entry.group, record.group);
  entry.id.store(id, std::memory_order_release);
  return id;
}

void set_state(RankBoard& board, uint64_t id, Record::State state) {
  PublishedRecord& entry = board.recorded[id % RankBoard::kRecords];
  if (entry.id.load(std::memory_order_acquire) != id) return;
  if (state >= Record::State::kFinished) entry.end.store(now_ns(), std::memory_order_release);
  entry.state.store(static_cast<uint32_t>(state), std::memory_order_release);
}

bool read_record(const RankBoard& board, uint64_t id, Record& record) {
  const PublishedRecord& entry = board.recorded[id % RankBoard::kRecords];
  if (entry.id.load(std::memory_order_acquire) != id) return false;
  record = {.kind = static_cast<OperationKind>(entry.kind.load(std::memory_order_acquire)),
            .state = static_cast<Record::State>(entry.state.load(std::memory_order_acquire)),
            .sequence = entry.sequence.load(std::memory_order_acquire),
            .bytes_out = entry.bytes_out.load(std::memory_order_acquire),
            .bytes_in = entry.bytes_in.load(std::memory_order_acquire),
            .root = entry.root.load(std::memory_order_acquire),
            .whereabouts = read(entry.whereabouts),
            .what = read(entry.what),
            .group = read(entry.group),
            .start = entry.start.load(std::memory_order_acquire),
            .end = entry.end.load(std::memory_order_acquire)};
  return entry.id.load(std::memory_order_acquire) == id;
}

namespace {

void add_whereabouts(const Whereabouts& whereabouts, FixedText<kActivityBytes>& text) {
  if (whereabouts.step < 0) return;
  text.add(FMT_STRING("; step {}, {}"), whereabouts.step, name_of(whereabouts.phase));
  if (whereabouts.micro_batch >= 0)
    text.add(FMT_STRING(", micro-batch {}"), whereabouts.micro_batch);
  if (whereabouts.layer >= 0) text.add(FMT_STRING(", layer {}"), whereabouts.layer);
}

// Tells of the operation that the rank began last in any group.
void add_operation(const RankBoard& board, FixedText<kActivityBytes>& text) {
  const uint32_t latest = board.latest.load(std::memory_order_acquire);
  if (latest >= RankBoard::kGroups) return text.add(FMT_STRING("unknown"));
  const GroupBoard& group = board.groups[latest];
  const uint64_t started = group.started.load(std::memory_order_acquire);
  if ((started & kSequenceMask) == 0)
    return text.add(FMT_STRING("outside any collective, has begun none yet"));
  const Signature last = read_signature(group, started);
  if (last.sequence == 0)
    return text.add(FMT_STRING("outside any collective, has left the group of its last one"));
  const bool is_inside = group.finished.load(std::memory_order_acquire) < started;
  text.add(FMT_STRING("{} {} #{} '{}' of {}"),
           is_inside ? "in" : "outside any collective, the last was", name_of(last.kind),
           started & kSequenceMask, last.what.data(), read(group.name).data());
}

}  // namespace

FixedText<kActivityBytes> describe_activity(const RankBoard& board) {
  FixedText<kActivityBytes> text;
  const ShortText working_on = read(board.working_on);
  add_operation(board, text);
  if (working_on[0] != '\0') text.add(FMT_STRING("; at work: {}"), working_on.data());
  add_whereabouts(read(board.whereabouts), text);
  return text;
}

void publish_process(RankBoard& board) {
  board.process_namespace.store(process_namespace, std::memory_order_release);
  board.process.store(::getpid(), std::memory_order_release);
}

bool is_gone(const RankBoard& board) {
  const int32_t process = board.process.load(std::memory_order_acquire);
  const uint64_t there = board.process_namespace.load(std::memory_order_acquire);
  if (process == 0 || there == 0 || there != process_namespace) return false;
  return ::kill(process, 0) != 0 && errno == ESRCH;
}

}  // namespace switchyard::parallel
