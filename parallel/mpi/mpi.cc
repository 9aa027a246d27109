#include "parallel/mpi/mpi.h"

#include <cstdio>
#include <exception>
#include <new>

#include <mpi.h>

#include <fmt/format.h>

#include "core/base/errors.h"
#include "parallel/crash_report.h"
#include "parallel/flight_report.h"
#include "parallel/mpi/communicator.h"
#include "parallel/watchdog.h"

namespace switchyard::parallel {
namespace {

int rank_in(MPI_Comm comm) {
  int rank;
  SY_MPI(MPI_Comm_rank(comm, &rank));
  return rank;
}

int size_of_comm(MPI_Comm comm) {
  int size;
  SY_MPI(MPI_Comm_size(comm, &size));
  return size;
}

CommHandle duplicate(MPI_Comm comm) {
  MPI_Comm copy;
  SY_MPI(MPI_Comm_dup(comm, &copy));
  return CommHandle(copy);
}

CommHandle split_by_node(MPI_Comm comm) {
  MPI_Comm node;
  SY_MPI(MPI_Comm_split_type(comm, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node));
  return CommHandle(node);
}

// The boards of this node's ranks, in memory that they share.
class BoardWindow {
 public:
  // **Collective** over `node`.
  explicit BoardWindow(MPI_Comm node) {
    void* own = nullptr;
    SY_MPI(MPI_Win_allocate_shared(sizeof(RankBoard), sizeof(RankBoard), MPI_INFO_NULL, node, &own,
                                   &window_));
    new (own) RankBoard();  // zeroed
    SY_MPI(MPI_Barrier(node));
  }
  ~BoardWindow() { MPI_Win_free(&window_); }
  BoardWindow(const BoardWindow&) = delete;

  RankBoard* of(int node_rank) const {
    MPI_Aint bytes;
    int unit;
    void* base = nullptr;
    SY_MPI(MPI_Win_shared_query(window_, node_rank, &bytes, &unit, &base));
    return static_cast<RankBoard*>(base);
  }

 private:
  MPI_Win window_;
};

// The boards of all ranks by world rank; null for ranks of other nodes.
std::vector<RankBoard*> boards_by_rank(const BoardWindow& window, MPI_Comm world, MPI_Comm node) {
  const int own = rank_in(world);
  std::vector<int> world_ranks(size_of_comm(node));
  SY_MPI(MPI_Allgather(&own, 1, MPI_INT, world_ranks.data(), 1, MPI_INT, node));
  std::vector<RankBoard*> boards(size_of_comm(world), nullptr);
  for (size_t r = 0; r < world_ranks.size(); ++r) {
    boards[world_ranks[r]] = window.of(static_cast<int>(r));
  }
  return boards;
}

}  // namespace

// Members in the order in which they are made; destroyed in reverse, before MPI_Finalize.
struct MpiSession::State {
  CommHandle world = duplicate(MPI_COMM_WORLD);
  CommHandle node = split_by_node(world.get());
  BoardWindow window{node.get()};
  std::shared_ptr<RankWatch> watch = std::make_shared<RankWatch>(
      rank_in(world.get()), boards_by_rank(window, world.get(), node.get()));
  int exceptions_at_start = std::uncaught_exceptions();
};

MpiSession::MpiSession() {
  int provided = MPI_THREAD_SINGLE;
  SY_MPI(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_MULTIPLE, &provided));
  // Open MPI reports errors of non-blocking collectives to the world's handler, whose default
  // aborts.
  SY_MPI(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN));
  if (provided < MPI_THREAD_MULTIPLE) {
    MPI_Finalize();
    throw CommError(
        fmt::format("MPI_Init_thread: this MPI offers thread level {}, MPI_THREAD_MULTIPLE ({}) "
                    "is needed; use an MPI built with it",
                    provided, MPI_THREAD_MULTIPLE));
  }
  state_ = std::make_unique<State>();
  set_crash_rank(rank(), &state_->watch->own());
  set_flight_boards(state_->watch->boards());
}

MpiSession::~MpiSession() {
  if (std::uncaught_exceptions() > state_->exceptions_at_start) {
    std::fprintf(stderr, "[rank %d] stopped by an exception\n", rank());
    MPI_Abort(state_->world.get(), static_cast<int>(ExitCode::kBug));
  }
  set_crash_rank(rank(), nullptr);
  set_flight_boards({});
  state_.reset();
  MPI_Finalize();
}

int MpiSession::rank() const { return state_->watch->world_rank(); }
int MpiSession::size() const { return size_of_comm(state_->world.get()); }
int MpiSession::local_size() const { return size_of_comm(state_->node.get()); }

std::unique_ptr<Communicator> MpiSession::make_world(const MpiOptions& options) const {
  CommHandle comm = duplicate(state_->world.get());
  BoardSlot slot(state_->watch, "world");
  const Member own = slot.member();
  std::vector<Member> members(size());
  SY_MPI(
      MPI_Allgather(&own, sizeof own, MPI_BYTE, members.data(), sizeof own, MPI_BYTE, comm.get()));
  auto watch = std::make_unique<GroupWatch>(std::move(slot), "world", std::move(members),
                                            options.timeout_seconds);
  return std::make_unique<MpiCommunicator>(std::move(comm), std::move(watch), options.max_count,
                                           options.is_checked);
}

}  // namespace switchyard::parallel
