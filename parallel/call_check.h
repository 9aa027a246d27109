#pragma once
// What the members of a checked group tell each other before each operation, so that a difference
// ends the job at the call: with both calls named, and before any data has moved.

#include <cstdint>
#include <vector>

#include "core/base/dtype.h"
#include "parallel/board.h"
#include "parallel/communicator.h"

namespace switchyard::parallel {

// An operation as a member calls it.
struct Call {
  Operation operation;                     // bytes_out of all_to_all_v may differ
  const ExchangeCounts* counts = nullptr;  // of all_to_all_v; read at once
  DType dtype = DType::kUInt8;             // of a reduction
  ReduceOp op = ReduceOp::kSum;
};

class CallCheck {
 public:
  CallCheck(const Call& call, const Communicator& group);

  // For an all_to_all_v of one row of row_bytes() to and from each member.
  const void* send() const { return own_.data(); }
  void* receive() { return theirs_.data(); }
  static int64_t row_bytes() { return sizeof(Description); }

  // Once the rows are there. Throws CommError, on all members alike, unless all call the same.
  void compare() const;

 private:
  // A call as one member describes it to another.
  struct Description {
    ShortText what;
    int64_t kind, bytes, root, dtype, op;
    int64_t to_you, from_you;  // bytes of all_to_all_v
  };
  static bool agree(const Description& own, const Description& theirs);
  static std::string text(const Description& call);

  const Communicator& group_;
  std::vector<Description> own_, theirs_;  // to and from each member
};

}  // namespace switchyard::parallel
