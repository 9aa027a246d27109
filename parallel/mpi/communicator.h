#pragma once
// The communicator of the MPI backend, and what wraps MPI's calls. Private to this folder.

#include <memory>
#include <string>
#include <vector>

#include <mpi.h>

#include "parallel/host_reductions.h"
#include "parallel/watchdog.h"

namespace switchyard::parallel {

// "MPI_ERR_TRUNCATE: message truncated"
std::string mpi_error_text(int code);

// Throws CommError "<call>: <MPI's text>" unless `code` is MPI_SUCCESS.
void check_mpi(int code, const char* call);
#define SY_MPI(call) ::switchyard::parallel::check_mpi(call, #call)

// An owned MPI communicator whose errors are return codes.
class CommHandle {
 public:
  explicit CommHandle(MPI_Comm comm);
  ~CommHandle();
  CommHandle(CommHandle&& other) noexcept : comm_(other.comm_) { other.comm_ = MPI_COMM_NULL; }

  MPI_Comm get() const { return comm_; }

 private:
  MPI_Comm comm_;
};

class MpiCommunicator final : public HostReductions {
 public:
  MpiCommunicator(CommHandle comm, std::unique_ptr<GroupWatch> watch, int64_t max_count,
                  bool is_checked);

  int rank() const override { return watch_->rank(); }
  int size() const override { return watch_->size(); }
  const std::string& name() const override { return watch_->name(); }

  std::unique_ptr<Communicator> split(int color, const std::string& name) override;
  void beat(std::string_view working_on) override { watch_->beat(working_on); }
  Activity& activity() override { return watch_->rank_watch()->activity(); }
  [[noreturn]] void abort(int exit_code, const std::string& message) override;

 private:
  std::unique_ptr<Work> move(const Movement& movement) override;

  CommHandle comm_;
  std::unique_ptr<GroupWatch> watch_;
  int64_t max_count_;
};

}  // namespace switchyard::parallel
