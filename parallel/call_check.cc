#include "parallel/call_check.h"

#include <fmt/format.h>

#include "core/base/errors.h"

namespace switchyard::parallel {

CallCheck::CallCheck(const Call& call, const Communicator& group)
    : group_(group), theirs_(group.size()) {
  const Operation& operation = call.operation;
  Description own{.what = cut(operation.what),
                  .kind = static_cast<int64_t>(operation.kind),
                  .bytes = call.counts == nullptr ? operation.bytes_out : 0,
                  .root = operation.root,
                  .dtype = static_cast<int64_t>(call.dtype),
                  .op = static_cast<int64_t>(call.op),
                  .to_you = 0,
                  .from_you = 0};
  for (int rank = 0; rank < group.size(); ++rank) {
    if (call.counts != nullptr) {
      own.to_you = call.counts->send[rank] * call.counts->row_bytes;
      own.from_you = call.counts->receive[rank] * call.counts->row_bytes;
    }
    own_.push_back(own);
  }
}

void CallCheck::compare() const {
  for (int rank = 0; rank < group_.size(); ++rank) {
    if (agree(own_[rank], theirs_[rank])) continue;
    throw CommError(
        fmt::format("ranks of {} are about to do different things: rank {} of the group calls {}; "
                    "rank {} of it calls {}",
                    group_.name(), group_.rank(), text(own_[rank]), rank, text(theirs_[rank])));
  }
}

bool CallCheck::agree(const Description& own, const Description& theirs) {
  return own.what == theirs.what && own.kind == theirs.kind && own.bytes == theirs.bytes &&
         own.root == theirs.root && own.dtype == theirs.dtype && own.op == theirs.op &&
         own.to_you == theirs.from_you && own.from_you == theirs.to_you;
}

std::string CallCheck::text(const Description& call) {
  constexpr const char* kOps[] = {"sum", "max", "min"};
  const auto kind = static_cast<OperationKind>(call.kind);
  std::string line = fmt::format("{} '{}'", name_of(kind), call.what.data());
  if (kind == OperationKind::kAllToAllV)
    return line + fmt::format(" with {} B to the other, {} B from it", call.to_you, call.from_you);
  line += fmt::format(" of {} B", call.bytes);
  if (call.root >= 0) line += fmt::format(" from rank {}", call.root);
  if (kind == OperationKind::kReduceScatter || kind == OperationKind::kAllReduce)
    line += fmt::format(", {} in {}", kOps[call.op], name_of(static_cast<DType>(call.dtype)));
  return line;
}

}  // namespace switchyard::parallel
