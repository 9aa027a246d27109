#pragma once
// The stages of a pipeline as one of its ranks sees them: the ranks at the same place in each
// stage, which hold the layers together. Neighbours send each other the rows of tokens and, in
// backward, the gradients of these rows.

#include <cstdint>
#include <memory>
#include <optional>

#include "core/base/layout.h"
#include "parallel/communicator.h"

namespace switchyard::parallel {

// One way between two neighbouring stages. What is sent arrives in the order in which it was sent.
// Each way is a group of its two ranks, so that rows never wait for the turn of gradients.
class Link {
 public:
  explicit Link(std::unique_ptr<Communicator> pair) : pair_(std::move(pair)) {
    pair_->leave_unchecked();
  }

  // The sender's. It is complete when the receiver has taken the bytes.
  std::unique_ptr<Work> start_send(const void* data, int64_t bytes, const char* what);
  // The receiver's, which waits. `bytes` must be as many as were sent.
  void receive(void* data, int64_t bytes, const char* what);
  int64_t bytes_sent() const { return pair_->traffic().bytes_sent; }

 private:
  std::unique_ptr<Communicator> pair_;
};

class Pipeline {
 public:
  // **Collective** over `stages`, the ranks along the pipeline axis, which must outlive it.
  explicit Pipeline(Communicator& stages);

  Communicator& stages() const { return *stages_; }
  Place place() const { return {stages_->rank(), stages_->size()}; }
  bool is_first() const { return stages_->rank() == 0; }
  bool is_last() const { return stages_->rank() == stages_->size() - 1; }

  // Rows come from the stage before and go to the one behind, gradients the other way. Requires: it
  // is there.
  Link& rows_in() const { return *before_->rows; }
  Link& rows_out() const { return *behind_->rows; }
  Link& gradients_in() const { return *behind_->gradients; }
  Link& gradients_out() const { return *before_->gradients; }

  // The ranks of the first stage and of the last. Requires: this rank is one of them.
  Communicator& ends() const { return ends_ ? *ends_ : *stages_; }
  // By this rank to other stages, so far.
  int64_t bytes_sent() const;

 private:
  struct Links {
    std::unique_ptr<Link> rows, gradients;
  };
  void connect(int parity);

  Communicator* stages_;
  std::optional<Links> before_, behind_;
  std::unique_ptr<Communicator> ends_;  // null: they are all stages
};

}  // namespace switchyard::parallel
