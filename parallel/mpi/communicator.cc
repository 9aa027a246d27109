#include "parallel/mpi/communicator.h"

#include <sched.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <thread>

#include <fmt/format.h>

#include "core/base/errors.h"

namespace switchyard::parallel {
namespace {

using Clock = std::chrono::steady_clock;

// A committed type of `bytes` bytes, so that counts are rows and not bytes. Freeing it does not
// disturb operations under way.
class RowType {
 public:
  RowType(int64_t bytes, int64_t max_count) {
    if (bytes <= max_count) {
      SY_MPI(MPI_Type_contiguous(static_cast<int>(bytes), MPI_BYTE, &type_));
    } else {  // full blocks of max_count bytes, then the rest
      MPI_Datatype block;
      SY_MPI(MPI_Type_contiguous(static_cast<int>(max_count), MPI_BYTE, &block));
      const int lengths[] = {static_cast<int>(bytes / max_count),
                             static_cast<int>(bytes % max_count)};
      const MPI_Aint offsets[] = {0, lengths[0] * max_count};
      const MPI_Datatype types[] = {block, MPI_BYTE};
      SY_MPI(MPI_Type_create_struct(2, lengths, offsets, types, &type_));
      SY_MPI(MPI_Type_free(&block));
    }
    SY_MPI(MPI_Type_commit(&type_));
  }
  ~RowType() { MPI_Type_free(&type_); }
  RowType(const RowType&) = delete;

  MPI_Datatype get() const { return type_; }

 private:
  MPI_Datatype type_;
};

constexpr int kPollsBetweenChecks = 64;

// Between polls: spins at first for latency, then lets other ranks have the core, and after a
// second sleeps, so that a long wait (for rank 0's disk, say) costs little.
void pause_between_polls(int polls, Clock::time_point start) {
  if (polls < kPollsBetweenChecks) return;
  if (polls % kPollsBetweenChecks == 0 && Clock::now() - start > std::chrono::seconds(1)) {
    std::this_thread::sleep_for(std::chrono::microseconds(50 * kPollsBetweenChecks));
  } else {
    sched_yield();
  }
}

class MpiWork final : public Work {
 public:
  MpiWork(GroupWatch& watch, Ticket ticket) : watch_(watch), ticket_(ticket) {}

  // Dropped before wait(), as an exception goes by: peers may still write to the buffers, which are
  // about to be freed. Gives them a moment, but does not hold up the report of that exception.
  ~MpiWork() override {
    const auto deadline = Clock::now() + std::chrono::seconds(2);
    int is_complete = request == MPI_REQUEST_NULL;
    while (!is_complete && !watch_.has_failed() && Clock::now() < deadline) {
      if (MPI_Test(&request, &is_complete, MPI_STATUS_IGNORE) != MPI_SUCCESS) break;
      sched_yield();
    }
  }

  void wait() override {
    Wait wait = watch_.begin_wait(ticket_);
    for (int polls = 1; !test(); ++polls) {
      if (polls % kPollsBetweenChecks == 0) watch_.check(ticket_, wait);
      pause_between_polls(polls, wait.start);
    }
    watch_.finish(ticket_);
    watch_.end_wait(wait);
  }

  bool test() override {
    int is_complete = 0;
    check(MPI_Test(&request, &is_complete, MPI_STATUS_IGNORE));
    return is_complete != 0;
  }

  void check(int code) {
    if (code != MPI_SUCCESS) watch_.give_up(ticket_, mpi_error_text(code));
  }

  MPI_Request request = MPI_REQUEST_NULL;
  std::vector<int> counts;  // all_to_all_v: send counts and offsets, receive counts and offsets

 private:
  GroupWatch& watch_;
  Ticket ticket_;
};

constexpr int kMovesAll = -1;

// Appends `rows` and their offsets, as MPI's ints. The rows of `kept` count as none, but have their
// place; kMovesAll: of no rank.
void append_counts(std::vector<int>& counts, const std::vector<int64_t>& rows, int kept) {
  const size_t first = counts.size();
  counts.insert(counts.end(), rows.begin(), rows.end());
  if (kept != kMovesAll) counts[first + kept] = 0;
  int offset = 0;
  for (const int64_t count : rows) {
    counts.push_back(offset);
    offset += static_cast<int>(count);
  }
}

void check_total(const std::vector<int64_t>& rows, int64_t max_count, const Communicator& group,
                 std::string_view what) {
  const int64_t total = std::accumulate(rows.begin(), rows.end(), int64_t{0});
  if (total <= max_count) return;
  throw CommError(
      fmt::format("all_to_all_v '{}' of {}: {} rows at once, but MPI counts at most {}; use "
                  "smaller micro-batches, or more of them",
                  what, group.name(), total, max_count));
}

// Returns MPI's code. `row` is a row of all_to_all_v, and all that one rank sends otherwise.
int begin(const Movement& movement, MPI_Comm comm, int rank, MPI_Datatype row, MpiWork& work) {
  const auto& [operation, send, receive, counts, keeps_own] = movement;
  switch (operation.kind) {
    case OperationKind::kAllToAllV: {
      const int kept = keeps_own ? rank : kMovesAll;
      append_counts(work.counts, counts.send, kept);
      append_counts(work.counts, counts.receive, kept);
      const int* c = work.counts.data();
      const size_t n = counts.send.size();
      return MPI_Ialltoallv(send, c, c + n, row, receive, c + 2 * n, c + 3 * n, row, comm,
                            &work.request);
    }
    case OperationKind::kAllGather: {
      const bool is_there = send == static_cast<std::byte*>(receive) + rank * operation.bytes_out;
      return MPI_Iallgather(is_there ? MPI_IN_PLACE : send, 1, row, receive, 1, row, comm,
                            &work.request);
    }
    case OperationKind::kBroadcast:
      return MPI_Ibcast(receive, 1, row, operation.root, comm, &work.request);
    default:
      return MPI_Ibarrier(comm, &work.request);
  }
}

}  // namespace

std::string mpi_error_text(int code) {
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  if (MPI_Error_string(code, text, &length) != MPI_SUCCESS) return fmt::format("MPI code {}", code);
  return std::string(text, length);
}

void check_mpi(int code, const char* call) {
  if (code != MPI_SUCCESS) throw CommError(fmt::format("{}: {}", call, mpi_error_text(code)));
}

CommHandle::CommHandle(MPI_Comm comm) : comm_(comm) {
  SY_MPI(MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN));
}

CommHandle::~CommHandle() {
  if (comm_ != MPI_COMM_NULL) MPI_Comm_free(&comm_);
}

MpiCommunicator::MpiCommunicator(CommHandle comm, std::unique_ptr<GroupWatch> watch,
                                 int64_t max_count, bool is_checked)
    : HostReductions(is_checked),
      comm_(std::move(comm)),
      watch_(std::move(watch)),
      max_count_(max_count) {}

std::unique_ptr<Communicator> MpiCommunicator::split(int color, const std::string& name) {
  // Also makes sure, with a deadline, that all ranks are here: MPI_Comm_split has none.
  auto watch = split_watch(*this, *watch_, color, name);
  MPI_Comm comm;
  SY_MPI(MPI_Comm_split(comm_.get(), color, rank(), &comm));
  return std::make_unique<MpiCommunicator>(CommHandle(comm), std::move(watch), max_count_,
                                           is_checked());
}

std::unique_ptr<Work> MpiCommunicator::move(const Movement& movement) {
  const auto& [operation, send, receive, counts, keeps_own] = movement;
  check_total(counts.send, max_count_, *this, operation.what);
  check_total(counts.receive, max_count_, *this, operation.what);
  const bool is_exchange = operation.kind == OperationKind::kAllToAllV;
  const RowType row(is_exchange ? counts.row_bytes : operation.bytes_out, max_count_);
  auto work = std::make_unique<MpiWork>(*watch_, watch_->start(operation));
  work->check(begin(movement, comm_.get(), rank(), row.get(), *work));
  return work;
}

void MpiCommunicator::abort(int exit_code, const std::string& message) {
  std::fprintf(stderr, "%s\n", message.c_str());
  std::fflush(nullptr);
  MPI_Abort(comm_.get(), exit_code);
  std::_Exit(exit_code);
}

}  // namespace switchyard::parallel
