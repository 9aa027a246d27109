#include "parallel/thread.h"

#include <condition_variable>
#include <exception>
#include <map>
#include <mutex>
#include <optional>
#include <thread>
#include <tuple>

#include <fmt/format.h>

#include "core/base/errors.h"
#include "parallel/host_reductions.h"
#include "parallel/watchdog.h"

namespace switchyard::parallel {
namespace {

// One operation of one group, filled by its ranks as they arrive. Their buffers stay valid until
// it is complete.
struct Meeting {
  explicit Meeting(int size) : parts(size) {}
  std::vector<Movement> parts;  // by rank
  size_t arrived = 0;
  bool is_done = false;
  std::string error;  // not empty: the ranks do not agree, and nothing was moved
};

struct GroupState {
  std::map<uint64_t, std::shared_ptr<Meeting>> meetings;  // by sequence number, incomplete ones
};

// Shared by all threads; everything but the boards under `mutex`.
struct Shared {
  Shared(int size, bool checked) : is_checked(checked), boards(size) {}
  const bool is_checked;
  std::mutex mutex;
  std::condition_variable changed;
  std::optional<std::string> failure;  // "rank 2 failed: ..."; ends every wait
  std::exception_ptr first_exception;
  std::vector<RankBoard> boards;
  // Groups made by split that not every member has fetched yet, with the number of members still
  // to come. The key is the first member: its world rank, and the place on its board.
  std::map<std::tuple<int, int, uint64_t>, std::pair<std::shared_ptr<GroupState>, int>> splits;
};

// The first line of the message of the exception that is being handled.
std::string text_of_current_exception() {
  try {
    throw;
  } catch (const std::exception& error) {
    const std::string text = error.what();
    return text.substr(0, text.find('\n'));
  } catch (...) {
    return "an unknown exception";
  }
}

std::string exchange_rows(const std::vector<Movement>& parts) {
  const size_t size = parts.size();
  for (size_t from = 0; from < size; ++from) {
    for (size_t to = 0; to < size; ++to) {
      const int64_t sent = parts[from].counts.send[to] * parts[from].counts.row_bytes;
      const int64_t expected = parts[to].counts.receive[from] * parts[to].counts.row_bytes;
      if (sent != expected) {
        return fmt::format("rank {} of the group sends {} B to rank {}, which expects {} B", from,
                           sent, to, expected);
      }
    }
  }
  std::vector<int64_t> received(size, 0);
  for (size_t from = 0; from < size; ++from) {
    const ExchangeCounts& counts = parts[from].counts;
    const auto* next = static_cast<const std::byte*>(parts[from].send);
    for (size_t to = 0; to < size; ++to) {
      const int64_t bytes = counts.send[to] * counts.row_bytes;
      if (from != to || !parts[from].keeps_own)
        copy_bytes(static_cast<std::byte*>(parts[to].receive) + received[to], next, bytes);
      next += bytes;
      received[to] += bytes;
    }
  }
  return {};
}

// Returns what the ranks disagree on; empty when the data was moved.
std::string move_data(const std::vector<Movement>& parts) {
  const Operation& first = parts[0].operation;
  for (const auto& [operation, send, receive, counts, keeps_own] : parts) {
    if (operation.kind != first.kind) return "ranks call different operations";
    if (operation.kind == OperationKind::kAllToAllV) continue;
    if (operation.bytes_out != first.bytes_out || operation.root != first.root) {
      return fmt::format("ranks call different sizes ({} B and {} B) or roots ({} and {})",
                         first.bytes_out, operation.bytes_out, first.root, operation.root);
    }
  }
  if (first.kind == OperationKind::kAllToAllV) return exchange_rows(parts);
  for (const Movement& to : parts) {
    if (first.kind == OperationKind::kAllGather) {
      auto* next = static_cast<std::byte*>(to.receive);
      for (const Movement& from : parts) {
        copy_bytes(next, from.send, first.bytes_out);
        next += first.bytes_out;
      }
    } else if (first.kind == OperationKind::kBroadcast && &to != &parts[first.root]) {
      copy_bytes(to.receive, parts[first.root].receive, first.bytes_out);
    }
  }
  return {};
}

// Ends all waits, since this rank drops an operation that is not complete. Under `shared.mutex`.
void end_all(Shared& shared, const GroupWatch& watch, const char* what) {
  if (shared.failure) return;
  shared.failure = fmt::format("rank {} gave up '{}' of {}", watch.rank_watch()->world_rank(), what,
                               watch.name());
  shared.changed.notify_all();
}

class ThreadWork final : public Work {
 public:
  ThreadWork(Shared& shared, GroupWatch& watch, Ticket ticket, std::shared_ptr<Meeting> meeting)
      : shared_(shared), watch_(watch), ticket_(ticket), meeting_(std::move(meeting)) {}

  // Dropped before wait(), as an exception goes by: peers must not touch the buffers any more.
  ~ThreadWork() override {
    const std::lock_guard lock(shared_.mutex);
    if (!meeting_->is_done) end_all(shared_, watch_, ticket_.record.what.data());
  }

  void wait() override {
    std::unique_lock lock(shared_.mutex);
    Wait wait = watch_.begin_wait(ticket_);
    while (!shared_.changed.wait_until(lock, wait.deadline, [&] { return is_over(); })) {
      watch_.check(ticket_, wait);
    }
    if (!meeting_->is_done) watch_.give_up(ticket_, *shared_.failure);
    if (!meeting_->error.empty()) watch_.fail(ticket_, meeting_->error);
    watch_.finish(ticket_);
    watch_.end_wait(wait);
  }

  bool test() override {
    const std::lock_guard lock(shared_.mutex);
    return is_over();  // wait() tells a failure
  }

 private:
  bool is_over() const { return meeting_->is_done || shared_.failure; }

  Shared& shared_;
  GroupWatch& watch_;
  Ticket ticket_;
  std::shared_ptr<Meeting> meeting_;
};

class ThreadCommunicator final : public HostReductions {
 public:
  ThreadCommunicator(Shared& shared, std::shared_ptr<GroupState> state,
                     std::unique_ptr<GroupWatch> watch)
      : HostReductions(shared.is_checked),
        shared_(shared),
        state_(std::move(state)),
        watch_(std::move(watch)) {}

  int rank() const override { return watch_->rank(); }
  int size() const override { return watch_->size(); }
  const std::string& name() const override { return watch_->name(); }

  std::unique_ptr<Communicator> split(int color, const std::string& name) override;
  void beat(std::string_view working_on) override { watch_->beat(working_on); }
  Activity& activity() override { return watch_->rank_watch()->activity(); }
  [[noreturn]] void abort(int exit_code, const std::string& message) override {
    throw Error(static_cast<ExitCode>(exit_code), message);  // ThreadGroup::run does the rest
  }

 private:
  std::unique_ptr<Work> move(const Movement& movement) override;
  void give_up(const std::string& what) override {
    const std::lock_guard lock(shared_.mutex);
    end_all(shared_, *watch_, what.c_str());
  }

  Shared& shared_;
  std::shared_ptr<GroupState> state_;
  std::unique_ptr<GroupWatch> watch_;
};

std::unique_ptr<Communicator> ThreadCommunicator::split(int color, const std::string& name) {
  auto watch = split_watch(*this, *watch_, color, name);
  const Member& first = watch->members().front();
  const std::lock_guard lock(shared_.mutex);
  const auto entry =
      shared_.splits.try_emplace({first.world_rank, first.slot, first.base}, nullptr, watch->size())
          .first;
  auto& [state, num_to_come] = entry->second;
  if (state == nullptr) state = std::make_shared<GroupState>();
  auto result = std::make_unique<ThreadCommunicator>(shared_, state, std::move(watch));
  if (--num_to_come == 0) shared_.splits.erase(entry);
  return result;
}

std::unique_ptr<Work> ThreadCommunicator::move(const Movement& movement) {
  const Ticket ticket = watch_->start(movement.operation);
  const std::lock_guard lock(shared_.mutex);
  std::shared_ptr<Meeting>& entry = state_->meetings[ticket.record.sequence];
  if (entry == nullptr) entry = std::make_shared<Meeting>(size());
  const std::shared_ptr<Meeting> meeting = entry;
  meeting->parts[rank()] = movement;
  if (++meeting->arrived == meeting->parts.size() && !shared_.failure) {
    meeting->error = move_data(meeting->parts);
    meeting->is_done = true;
    state_->meetings.erase(ticket.record.sequence);
    shared_.changed.notify_all();
  }
  return std::make_unique<ThreadWork>(shared_, *watch_, ticket, meeting);
}

void run_rank(int rank, Shared& shared, std::shared_ptr<GroupState> state, double timeout_seconds,
              const std::function<void(Communicator&)>& rank_main) {
  try {
    std::vector<RankBoard*> boards;
    std::vector<Member> members;
    for (RankBoard& board : shared.boards) {
      members.push_back({static_cast<int32_t>(boards.size()), 0, 0});
      boards.push_back(&board);
    }
    BoardSlot slot(std::make_shared<RankWatch>(rank, std::move(boards)), "world");
    ThreadCommunicator world(shared, std::move(state),
                             std::make_unique<GroupWatch>(std::move(slot), "world",
                                                          std::move(members), timeout_seconds));
    rank_main(world);
  } catch (...) {
    const std::lock_guard lock(shared.mutex);
    if (!shared.first_exception) shared.first_exception = std::current_exception();
    if (!shared.failure)
      shared.failure = fmt::format("rank {} failed: {}", rank, text_of_current_exception());
    shared.changed.notify_all();
  }
}

}  // namespace

ThreadGroup::ThreadGroup(int size, double timeout_seconds, bool is_checked)
    : size_(size), timeout_seconds_(timeout_seconds), is_checked_(is_checked) {
  SY_CHECK(size > 0, "a group of {} ranks", size);
}

void ThreadGroup::run(const std::function<void(Communicator& world)>& rank_main) const {
  Shared shared(size_, is_checked_);
  const auto state = std::make_shared<GroupState>();
  std::vector<std::thread> threads;
  for (int rank = 0; rank < size_; ++rank) {
    threads.emplace_back([&, rank] { run_rank(rank, shared, state, timeout_seconds_, rank_main); });
  }
  for (std::thread& thread : threads) thread.join();
  if (shared.first_exception) std::rethrow_exception(shared.first_exception);
}

}  // namespace switchyard::parallel
