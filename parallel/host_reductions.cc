#include "parallel/host_reductions.h"

#include <algorithm>
#include <cstring>
#include <type_traits>
#include <utility>

#include <fmt/format.h>

#include "core/base/errors.h"
#include "parallel/call_check.h"

namespace switchyard::parallel {
namespace {

// While no more than this arrives, an all_reduce is one all_gather: latency counts, not volume.
constexpr int64_t kSmallBytes = 16 << 10;
// Larger buffers go in pieces, so that scratch stays bounded.
constexpr int64_t kPieceBytes = 16 << 20;

// accumulator[i] = op(accumulator[i], next[i]). A NaN on either side wins in max and min, so that
// it cannot be lost. Integer sums wrap.
template <typename T>
void accumulate(T* accumulator, const T* next, int64_t count, ReduceOp op) {
  const auto for_each = [=](auto combine) {
    for (int64_t i = 0; i < count; ++i) accumulator[i] = combine(accumulator[i], next[i]);
  };
  switch (op) {
    case ReduceOp::kSum:
      if constexpr (std::is_integral_v<T>) {
        using Unsigned = std::make_unsigned_t<T>;
        return for_each([](Unsigned a, Unsigned b) { return static_cast<T>(a + b); });
      } else {
        return for_each([](T a, T b) { return a + b; });
      }
    case ReduceOp::kMax:
      return for_each([](T a, T b) { return b > a || b != b ? b : a; });
    case ReduceOp::kMin:
      return for_each([](T a, T b) { return b < a || b != b ? b : a; });
  }
}

// What each rank has brought to a reduction: `count` elements, rank r's at arrived + r * count but
// for those of `own_rank`, which lie at `own`.
struct Blocks {
  const std::byte *arrived, *own;
  int own_rank, num_ranks;
  int64_t count;
};

// Reduces the blocks in the order of ranks into `result`, which may be `own`. The sum of a chunk
// stays in the cache until it is complete, so that memory sees every block once.
template <typename T>
void fold(const Blocks& blocks, ReduceOp op, std::byte* result) {
  constexpr int64_t kChunk = 1024;
  T sum[kChunk];
  for (int64_t begin = 0; begin < blocks.count; begin += kChunk) {
    const int64_t count = std::min(kChunk, blocks.count - begin);
    for (int rank = 0; rank < blocks.num_ranks; ++rank) {
      const T* block = rank == blocks.own_rank
                           ? reinterpret_cast<const T*>(blocks.own)
                           : reinterpret_cast<const T*>(blocks.arrived) + rank * blocks.count;
      if (rank == 0)
        std::copy_n(block + begin, count, sum);
      else
        accumulate(sum, block + begin, count, op);
    }
    std::copy_n(sum, count, reinterpret_cast<T*>(result) + begin);
  }
}

using Fold = void (*)(const Blocks&, ReduceOp, std::byte*);

Fold fold_of(DType dtype, const char* what) {
  switch (dtype) {
    case DType::kUInt8:
      return fold<uint8_t>;
    case DType::kInt32:
      return fold<int32_t>;
    case DType::kInt64:
      return fold<int64_t>;
    case DType::kFloat32:
      return fold<float>;
    case DType::kFloat64:
      return fold<double>;
    default:
      SY_CHECK(false,
               "'{}' would be reduced in {}, which rounds at every addition: use F32 or wider",
               what, name_of(dtype));
  }
}

Movement exchange(const void* send, void* receive, const ExchangeCounts& counts,
                  std::string_view what) {
  return {{OperationKind::kAllToAllV, what, counts.bytes_out(), counts.bytes_in()},
          send,
          receive,
          counts};
}

Movement gathering(const void* send, void* receive, int64_t bytes, const Communicator& group,
                   std::string_view what) {
  return {{OperationKind::kAllGather, what, bytes, bytes * group.size()}, send, receive, {}};
}

int64_t bytes_to_others(const Movement& movement, const Communicator& group) {
  const auto& [operation, send, receive, counts, keeps_own] = movement;
  switch (operation.kind) {
    case OperationKind::kAllToAllV:
      return operation.bytes_out - counts.send[group.rank()] * counts.row_bytes;
    case OperationKind::kAllGather:
      return operation.bytes_out * (group.size() - 1);
    case OperationKind::kBroadcast:
      return operation.root == group.rank() ? operation.bytes_out * (group.size() - 1) : 0;
    default:
      return 0;
  }
}

struct CompletedWork final : Work {
  void wait() override {}
  bool test() override { return true; }
};

}  // namespace

std::unique_ptr<Work> completed_work() { return std::make_unique<CompletedWork>(); }

// An operation of several movements, or one that must wait for its turn.
class HostReductions::Job : public Work {
 public:
  Job(HostReductions& in, std::string_view name) : group(in), what(name) {}
  ~Job() override;

  void wait() final { group.drive(*this, /*blocks=*/true); }
  bool test() final { return group.drive(*this, /*blocks=*/false); }

  // Begins the next movement; what the one before has brought is there. Null: the result is.
  virtual std::unique_ptr<Work> next() = 0;
  // next(), after the check's movement in a checked group.
  std::unique_ptr<Work> go_on();

  HostReductions& group;
  const std::string what;
  std::unique_ptr<Work> moving;      // null before the first movement and after the last
  std::unique_ptr<CallCheck> check;  // null: there is none, or it has passed
  bool has_begun_last = false;       // and has thereby left the queue
  bool is_done = false;
};

// Dropped half-way, it can neither go on, since its buffers are about to be freed, nor let others
// take their turn.
HostReductions::Job::~Job() {
  if (std::erase(group.queue_, this) == 0) return;
  moving.reset();
  group.given_up_ = fmt::format("'{}' of {}: this rank gave it up half-way", what, group.name());
  group.give_up(what);
}

std::unique_ptr<Work> HostReductions::Job::go_on() {
  if (check == nullptr) return next();
  if (moving == nullptr) {
    const std::vector<int64_t> one_row(group.size(), 1);
    return group.move(exchange(check->send(), check->receive(),
                               {one_row, one_row, CallCheck::row_bytes()}, what));
  }
  check->compare();
  check.reset();
  return next();
}

// One movement that waits for its turn.
class HostReductions::Queued final : public Job {
 public:
  Queued(HostReductions& in, const Movement& movement)
      : Job(in, movement.operation.what), movement_(movement) {
    movement_.operation.what = what;
  }

  std::unique_ptr<Work> next() override {
    if (has_begun_last) return nullptr;
    auto work = group.begin_movement(movement_);
    has_begun_last = true;
    return work;
  }

 private:
  Movement movement_;
};

// What both reductions need: room for a block from each rank, and the way to fold the blocks.
class HostReductions::Reduction : public Job {
 public:
  struct Kind {
    DType dtype;
    ReduceOp op;
    const char* what;

    Call call(OperationKind operation, int64_t count) const {
      return {{operation, what, count * static_cast<int64_t>(size_of(dtype))}, nullptr, dtype, op};
    }
  };

  Reduction(HostReductions& in, const Kind& kind)
      : Job(in, kind.what),
        element_bytes(static_cast<int64_t>(size_of(kind.dtype))),
        op_(kind.op),
        fold_(fold_of(kind.dtype, kind.what)) {
    if (in.unused_.empty()) return;
    blocks_ = std::move(in.unused_.back());
    in.unused_.pop_back();
  }
  ~Reduction() override { group.unused_.push_back(std::move(blocks_)); }

 protected:
  // Begins to bring `count` elements of each other rank here: the r-th part of what rank r sends.
  std::unique_ptr<Work> bring_slices(const std::byte* send, int64_t count) {
    const std::vector<int64_t> one_row(group.size(), 1);
    Movement movement =
        exchange(send, room(count), {one_row, one_row, count * element_bytes}, what);
    movement.keeps_own = true;
    return group.begin_movement(movement);
  }
  // Begins to bring all that each rank sends.
  std::unique_ptr<Work> bring_whole(const std::byte* send, int64_t count) {
    return group.begin_movement(gathering(send, room(count), count * element_bytes, group, what));
  }
  // Writes the reduction of the `count` elements of each rank; `own` are this rank's.
  void fold_into(std::byte* result, const std::byte* own, int64_t count) const {
    fold_({blocks_.data(), own, group.rank(), group.size(), count}, op_, result);
  }
  // The part of `slices` that this rank reduces.
  template <typename Byte>
  Byte* own_slice(Byte* slices, int64_t count) const {
    return slices + group.rank() * count * element_bytes;
  }

  const int64_t element_bytes;

 private:
  std::byte* room(int64_t count) {
    const size_t needed = count * element_bytes * group.size();
    if (blocks_.size() < needed) blocks_.resize(needed);
    return blocks_.data();
  }

  ReduceOp op_;
  Fold fold_;
  std::vector<std::byte> blocks_;
};

class HostReductions::ReduceScatter final : public Reduction {
 public:
  ReduceScatter(HostReductions& in, const void* send, void* receive, int64_t count,
                const Kind& kind)
      : Reduction(in, kind),
        send_(static_cast<const std::byte*>(send)),
        receive_(static_cast<std::byte*>(receive)),
        count_(count) {}

  std::unique_ptr<Work> next() override {
    if (has_begun_last) {
      fold_into(receive_, own_slice(send_, count_), count_);
      return nullptr;
    }
    auto work = bring_slices(send_, count_);
    has_begun_last = true;
    return work;
  }

 private:
  const std::byte* send_;
  std::byte* receive_;
  int64_t count_;
};

// Goes through the buffer piece by piece. Each rank reduces one of size() equal slices of a piece,
// then the slices are gathered; what is small is gathered whole and reduced by everybody.
class HostReductions::AllReduce final : public Reduction {
 public:
  AllReduce(HostReductions& in, void* data, int64_t count, const Kind& kind)
      : Reduction(in, kind), data_(static_cast<std::byte*>(data)), left_(count) {}

  std::unique_ptr<Work> next() override {
    if (arriving_ == Arriving::kSlices) return gather_results();
    if (arriving_ == Arriving::kWhole) fold_into(data_, data_, piece_);
    data_ += piece_ * element_bytes;
    left_ -= piece_;
    return left_ == 0 ? nullptr : begin_piece();
  }

 private:
  enum class Arriving { kNothing, kWhole, kSlices, kResults };

  std::unique_ptr<Work> begin_piece() {
    const int64_t size = group.size();
    piece_ = std::min(kPieceBytes / element_bytes, left_) / size * size;
    const bool is_small = left_ * element_bytes * (size - 1) <= kSmallBytes || piece_ == 0;
    if (is_small) piece_ = left_;
    auto work = is_small ? bring_whole(data_, piece_) : bring_slices(data_, piece_ / size);
    arriving_ = is_small ? Arriving::kWhole : Arriving::kSlices;
    has_begun_last = is_small;
    return work;
  }

  std::unique_ptr<Work> gather_results() {
    const int64_t slice = piece_ / group.size();
    std::byte* own = own_slice(data_, slice);
    fold_into(own, own, slice);
    auto work = group.begin_movement(gathering(own, data_, slice * element_bytes, group, what));
    arriving_ = Arriving::kResults;
    has_begun_last = piece_ == left_;
    return work;
  }

  std::byte* data_;
  int64_t left_;       // elements, from the piece under way on
  int64_t piece_ = 0;  // elements of the piece under way
  Arriving arriving_ = Arriving::kNothing;
};

bool HostReductions::must_queue() const {
  if (!given_up_.empty()) throw CommError(given_up_);
  return !queue_.empty();
}

std::unique_ptr<Work> HostReductions::enqueue(std::unique_ptr<Job> job, const Call& call) {
  if (checks()) job->check = std::make_unique<CallCheck>(call, *this);
  queue_.push_back(job.get());
  begin_queued();
  return job;
}

void HostReductions::begin_queued() {
  while (must_queue()) {
    Job& first = *queue_.front();
    if (!first.moving) first.moving = first.go_on();
    if (!first.has_begun_last) return;
    queue_.pop_front();
  }
}

bool HostReductions::drive(Job& job, bool blocks) {
  while (!job.is_done) {
    begin_queued();
    Job& active = job.has_begun_last ? job : *queue_.front();
    if (!blocks && !active.moving->test()) return false;
    active.moving->wait();
    active.moving = active.go_on();
    active.is_done = active.moving == nullptr;
  }
  return true;
}

std::unique_ptr<Work> HostReductions::begin_movement(const Movement& movement) {
  traffic().bytes_sent += bytes_to_others(movement, *this);
  return move(movement);
}

std::unique_ptr<Work> HostReductions::start(const Movement& movement) {
  if (!must_queue() && !checks()) return begin_movement(movement);
  const bool is_exchange = movement.operation.kind == OperationKind::kAllToAllV;
  return enqueue(std::make_unique<Queued>(*this, movement),
                 {movement.operation, is_exchange ? &movement.counts : nullptr});
}

std::unique_ptr<Work> HostReductions::start_all_to_all_v(const void* send, void* receive,
                                                         const ExchangeCounts& counts,
                                                         const char* what) {
  const auto is_valid = [&](const std::vector<int64_t>& rows) {
    return std::ssize(rows) == size() &&
           std::ranges::all_of(rows, [](int64_t n) { return n >= 0; });
  };
  SY_CHECK(is_valid(counts.send) && is_valid(counts.receive),
           "all_to_all_v '{}': expected {} counts >= 0 each way, got {} to send and {} to receive",
           what, size(), counts.send.size(), counts.receive.size());
  return start(exchange(send, receive, counts, what));
}

std::unique_ptr<Work> HostReductions::start_all_gather(const void* send, void* receive,
                                                       int64_t bytes, const char* what) {
  return start(gathering(send, receive, bytes, *this, what));
}

std::unique_ptr<Work> HostReductions::start_reduce_scatter(const void* send, void* receive,
                                                           int64_t count, DType dtype, ReduceOp op,
                                                           const char* what) {
  const Reduction::Kind kind{dtype, op, what};
  return enqueue(std::make_unique<ReduceScatter>(*this, send, receive, count, kind),
                 kind.call(OperationKind::kReduceScatter, count));
}

std::unique_ptr<Work> HostReductions::start_all_reduce(void* data, int64_t count, DType dtype,
                                                       ReduceOp op, const char* what) {
  const Reduction::Kind kind{dtype, op, what};
  auto job = std::make_unique<AllReduce>(*this, data, count, kind);
  if (size() == 1 || count == 0) return completed_work();
  return enqueue(std::move(job), kind.call(OperationKind::kAllReduce, count));
}

void HostReductions::broadcast(void* data, int64_t bytes, int root, const char* what) {
  const int64_t bytes_in = rank() == root ? 0 : bytes;
  start({{OperationKind::kBroadcast, what, bytes, bytes_in, root}, nullptr, data, {}})->wait();
}

void HostReductions::barrier(const char* what) {
  start({{OperationKind::kBarrier, what}, nullptr, nullptr, {}})->wait();
}

}  // namespace switchyard::parallel
