#include "parallel/host_reductions.h"

#include <algorithm>
#include <cstring>
#include <type_traits>
#include <utility>

#include <fmt/format.h>

#include "core/base/errors.h"

namespace switchyard::parallel {
namespace {

// Below this an all_reduce is one all_gather: latency counts, not volume.
constexpr int64_t kSmallBytes = 4 << 10;
// Larger buffers go in pieces, so that scratch stays bounded.
constexpr int64_t kPieceBytes = 16 << 20;

// accumulator[i] = op(accumulator[i], next[i]). A NaN on either side wins in max and min, so that
// it cannot be lost. Integer sums wrap.
template <typename T>
void accumulate(T* accumulator, const T* next, int64_t count, ReduceOp op) {
  switch (op) {
    case ReduceOp::kSum:
      for (int64_t i = 0; i < count; ++i) {
        if constexpr (std::is_integral_v<T>) {
          using Unsigned = std::make_unsigned_t<T>;
          accumulator[i] = static_cast<T>(static_cast<Unsigned>(accumulator[i]) +
                                          static_cast<Unsigned>(next[i]));
        } else {
          accumulator[i] += next[i];
        }
      }
      break;
    case ReduceOp::kMax:
      for (int64_t i = 0; i < count; ++i) {
        accumulator[i] = next[i] > accumulator[i] || next[i] != next[i] ? next[i] : accumulator[i];
      }
      break;
    case ReduceOp::kMin:
      for (int64_t i = 0; i < count; ++i) {
        accumulator[i] = next[i] < accumulator[i] || next[i] != next[i] ? next[i] : accumulator[i];
      }
      break;
  }
}

// Folds `num_blocks` consecutive blocks of `count` elements into the first, in block order: block b
// is rank b's.
template <typename T>
void fold(std::byte* blocks, int64_t num_blocks, int64_t count, ReduceOp op) {
  T* first = reinterpret_cast<T*>(blocks);
  for (int64_t b = 1; b < num_blocks; ++b) accumulate(first, first + b * count, count, op);
}

using Fold = void (*)(std::byte*, int64_t, int64_t, ReduceOp);

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

struct CompletedWork final : Work {
  void wait() override {}
  bool test() override { return true; }
};

}  // namespace

std::unique_ptr<Work> completed_work() { return std::make_unique<CompletedWork>(); }

class HostReductions::ScratchLoan {
 public:
  explicit ScratchLoan(HostReductions& group) : group_(group) {
    if (group.unused_.empty()) group.unused_.push_back(std::make_unique<Scratch>());
    scratch_ = std::move(group.unused_.back());
    group.unused_.pop_back();
  }
  ~ScratchLoan() { group_.unused_.push_back(std::move(scratch_)); }
  ScratchLoan(const ScratchLoan&) = delete;

  // For one block of `bytes` from each rank.
  std::byte* blocks(int64_t bytes) {
    const size_t needed = bytes * group_.size();
    if (scratch_->blocks.size() < needed) scratch_->blocks.resize(needed);
    return scratch_->blocks.data();
  }
  // `bytes` to and from each rank.
  const ExchangeCounts& slices(int64_t bytes) {
    scratch_->slices.send.assign(group_.size(), 1);
    scratch_->slices.receive.assign(group_.size(), 1);
    scratch_->slices.row_bytes = bytes;
    return scratch_->slices;
  }

 private:
  HostReductions& group_;
  std::unique_ptr<Scratch> scratch_;
};

// An operation of several movements, or one that must wait for its turn.
class HostReductions::Job : public Work {
 public:
  Job(HostReductions& group, const char* what) : group(group), what(what) {}
  ~Job() override;

  void wait() final { group.drive(*this, /*blocks=*/true); }
  bool test() final { return group.drive(*this, /*blocks=*/false); }

  // Begins the next movement; what the one before has brought is there. Null: the result is.
  virtual std::unique_ptr<Work> next() = 0;

  HostReductions& group;
  const std::string what;
  std::unique_ptr<Work> moving;  // null before the first movement and after the last
  bool has_begun_last = false;   // and has thereby left the queue
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

class HostReductions::Movement final : public Job {
 public:
  Movement(HostReductions& group, const char* what, Begin begin)
      : Job(group, what), begin_(std::move(begin)) {}

  std::unique_ptr<Work> next() override {
    if (has_begun_last) return nullptr;
    auto work = begin_(what.c_str());
    has_begun_last = true;
    return work;
  }

 private:
  Begin begin_;
};

class HostReductions::ReduceScatter final : public Job {
 public:
  ReduceScatter(HostReductions& group, const void* send, void* receive, int64_t count, DType dtype,
                ReduceOp op, const char* what)
      : Job(group, what),
        send_(send),
        receive_(receive),
        count_(count),
        bytes_(count * static_cast<int64_t>(size_of(dtype))),
        op_(op),
        fold_(fold_of(dtype, what)),
        scratch_(group) {}

  std::unique_ptr<Work> next() override {
    std::byte* blocks = scratch_.blocks(bytes_);
    if (has_begun_last) {
      fold_(blocks, group.size(), count_, op_);
      copy_bytes(receive_, blocks, bytes_);
      return nullptr;
    }
    auto work = group.move_all_to_all_v(send_, blocks, scratch_.slices(bytes_), what.c_str());
    has_begun_last = true;
    return work;
  }

 private:
  const void* send_;
  void* receive_;
  int64_t count_, bytes_;
  ReduceOp op_;
  Fold fold_;
  ScratchLoan scratch_;
};

// Goes through the buffer piece by piece. Each rank reduces one of size() equal slices of a piece,
// then the slices are gathered; what is small is gathered whole and reduced by everybody.
class HostReductions::AllReduce final : public Job {
 public:
  AllReduce(HostReductions& group, void* data, int64_t count, DType dtype, ReduceOp op,
            const char* what)
      : Job(group, what),
        data_(static_cast<std::byte*>(data)),
        left_(count),
        element_bytes_(static_cast<int64_t>(size_of(dtype))),
        op_(op),
        fold_(fold_of(dtype, what)),
        scratch_(group) {}

  std::unique_ptr<Work> next() override {
    if (arriving_ == Arriving::kSlices) return gather_results();
    if (arriving_ == Arriving::kWhole) copy_bytes(data_, folded(piece_), piece_ * element_bytes_);
    data_ += piece_ * element_bytes_;
    left_ -= piece_;
    return left_ == 0 ? nullptr : begin_piece();
  }

 private:
  enum class Arriving { kNothing, kWhole, kSlices, kResults };

  std::unique_ptr<Work> begin_piece() {
    const int64_t size = group.size();
    piece_ = std::min(kPieceBytes / element_bytes_, left_) / size * size;
    if (left_ * element_bytes_ <= kSmallBytes || piece_ == 0) return gather_whole();
    const int64_t bytes = piece_ / size * element_bytes_;
    auto work = group.move_all_to_all_v(data_, scratch_.blocks(bytes), scratch_.slices(bytes),
                                        what.c_str());
    arriving_ = Arriving::kSlices;
    return work;
  }

  std::unique_ptr<Work> gather_whole() {
    piece_ = left_;
    const int64_t bytes = piece_ * element_bytes_;
    auto work = group.move_all_gather(data_, scratch_.blocks(bytes), bytes, what.c_str());
    arriving_ = Arriving::kWhole;
    has_begun_last = true;
    return work;
  }

  std::unique_ptr<Work> gather_results() {
    const int64_t slice = piece_ / group.size();
    auto work = group.move_all_gather(folded(slice), data_, slice * element_bytes_, what.c_str());
    arriving_ = Arriving::kResults;
    has_begun_last = piece_ == left_;
    return work;
  }

  // The reduction of the blocks of `count` elements that have arrived.
  const std::byte* folded(int64_t count) {
    std::byte* blocks = scratch_.blocks(count * element_bytes_);
    fold_(blocks, group.size(), count, op_);
    return blocks;
  }

  std::byte* data_;
  int64_t left_;       // elements, from the piece under way on
  int64_t piece_ = 0;  // elements of the piece under way
  Arriving arriving_ = Arriving::kNothing;
  int64_t element_bytes_;
  ReduceOp op_;
  Fold fold_;
  ScratchLoan scratch_;
};

bool HostReductions::must_queue() const {
  if (!given_up_.empty()) throw CommError(given_up_);
  return !queue_.empty();
}

std::unique_ptr<Work> HostReductions::enqueue(std::unique_ptr<Job> job) {
  queue_.push_back(job.get());
  begin_queued();
  return job;
}

void HostReductions::begin_queued() {
  while (must_queue()) {
    Job& first = *queue_.front();
    if (!first.moving) first.moving = first.next();
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
    active.moving = active.next();
    active.is_done = active.moving == nullptr;
  }
  return true;
}

std::unique_ptr<Work> HostReductions::start_all_to_all_v(const void* send, void* receive,
                                                         const ExchangeCounts& counts,
                                                         const char* what) {
  if (!must_queue()) return move_all_to_all_v(send, receive, counts, what);
  return enqueue(std::make_unique<Movement>(*this, what, [=, this](const char* name) {
    return move_all_to_all_v(send, receive, counts, name);
  }));
}

std::unique_ptr<Work> HostReductions::start_all_gather(const void* send, void* receive,
                                                       int64_t bytes, const char* what) {
  if (!must_queue()) return move_all_gather(send, receive, bytes, what);
  return enqueue(std::make_unique<Movement>(*this, what, [=, this](const char* name) {
    return move_all_gather(send, receive, bytes, name);
  }));
}

std::unique_ptr<Work> HostReductions::start_reduce_scatter(const void* send, void* receive,
                                                           int64_t count, DType dtype, ReduceOp op,
                                                           const char* what) {
  return enqueue(std::make_unique<ReduceScatter>(*this, send, receive, count, dtype, op, what));
}

std::unique_ptr<Work> HostReductions::start_all_reduce(void* data, int64_t count, DType dtype,
                                                       ReduceOp op, const char* what) {
  auto job = std::make_unique<AllReduce>(*this, data, count, dtype, op, what);
  if (size() == 1 || count == 0) return completed_work();
  return enqueue(std::move(job));
}

void HostReductions::finish_queued() {
  if (must_queue()) drive(*queue_.back(), /*blocks=*/true);
}

void HostReductions::broadcast(void* data, int64_t bytes, int root, const char* what) {
  finish_queued();
  move_broadcast(data, bytes, root, what)->wait();
}

void HostReductions::barrier(const char* what) {
  finish_queued();
  move_nothing(what)->wait();
}

}  // namespace switchyard::parallel
