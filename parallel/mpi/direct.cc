#include "parallel/mpi/direct.h"

#include <vector>

#include <mpi.h>

#include "parallel/mpi/communicator.h"

namespace switchyard::parallel {
namespace {

MPI_Comm duplicate_of_world() {
  MPI_Comm comm;
  SY_MPI(MPI_Comm_dup(MPI_COMM_WORLD, &comm));
  return comm;
}

// How many bytes go to, or come from, each rank, and where they stand.
struct ByteCounts {
  ByteCounts(const std::vector<int64_t>& rows, int64_t row_bytes) {
    int offset = 0;
    for (const int64_t count : rows) {
      counts.push_back(static_cast<int>(count * row_bytes));
      offsets.push_back(offset);
      offset += counts.back();
    }
  }

  std::vector<int> counts, offsets;
};

}  // namespace

struct DirectMpi::State {
  CommHandle comm{duplicate_of_world()};
};

DirectMpi::DirectMpi() : state_(std::make_unique<State>()) {}
DirectMpi::~DirectMpi() = default;

void DirectMpi::all_to_all_v(const void* send, void* receive, const ExchangeCounts& counts) const {
  const ByteCounts out(counts.send, counts.row_bytes), in(counts.receive, counts.row_bytes);
  SY_MPI(MPI_Alltoallv(send, out.counts.data(), out.offsets.data(), MPI_BYTE, receive,
                       in.counts.data(), in.offsets.data(), MPI_BYTE, state_->comm.get()));
}

void DirectMpi::all_reduce(float* data, int count) const {
  SY_MPI(MPI_Allreduce(MPI_IN_PLACE, data, count, MPI_FLOAT, MPI_SUM, state_->comm.get()));
}

}  // namespace switchyard::parallel
