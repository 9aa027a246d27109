#include "parallel/communicator.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <type_traits>

#include "core/base/errors.h"

namespace switchyard::parallel {
namespace {

// Below this an all_reduce is one all_gather: latency counts, not volume.
constexpr int64_t kSmallBytes = 4 << 10;
// Larger buffers go in pieces, so that scratch stays bounded.
constexpr int64_t kChunkBytes = 16 << 20;

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

template <typename T>
void fold_as(std::byte* blocks, int64_t num_blocks, int64_t count, ReduceOp op) {
  T* first = reinterpret_cast<T*>(blocks);
  for (int64_t b = 1; b < num_blocks; ++b) accumulate(first, first + b * count, count, op);
}

// Folds `num_blocks` consecutive blocks of `count` elements into the first, in block order: block b
// is rank b's.
void fold(std::byte* blocks, int64_t num_blocks, int64_t count, DType dtype, ReduceOp op) {
  switch (dtype) {
    case DType::kUInt8:
      return fold_as<uint8_t>(blocks, num_blocks, count, op);
    case DType::kInt32:
      return fold_as<int32_t>(blocks, num_blocks, count, op);
    case DType::kInt64:
      return fold_as<int64_t>(blocks, num_blocks, count, op);
    case DType::kFloat32:
      return fold_as<float>(blocks, num_blocks, count, op);
    case DType::kFloat64:
      return fold_as<double>(blocks, num_blocks, count, op);
    case DType::kBFloat16:
      break;
  }
  SY_CHECK(false, "all_reduce has no {} (each hop would round): use F32 or wider", name_of(dtype));
}

template <typename T>
constexpr DType dtype_of() {
  if constexpr (std::is_same_v<T, uint8_t>) return DType::kUInt8;
  if constexpr (std::is_same_v<T, int32_t>) return DType::kInt32;
  if constexpr (std::is_same_v<T, int64_t>) return DType::kInt64;
  if constexpr (std::is_same_v<T, float>) return DType::kFloat32;
  if constexpr (std::is_same_v<T, double>) return DType::kFloat64;
}

}  // namespace

int64_t ExchangeCounts::bytes_out() const {
  return std::accumulate(send.begin(), send.end(), int64_t{0}) * row_bytes;
}

int64_t ExchangeCounts::bytes_in() const {
  return std::accumulate(receive.begin(), receive.end(), int64_t{0}) * row_bytes;
}

void check_counts(const ExchangeCounts& counts, int size, const char* what) {
  const auto is_negative = [](int64_t count) { return count < 0; };
  SY_CHECK(static_cast<int>(counts.send.size()) == size &&
               static_cast<int>(counts.receive.size()) == size &&
               std::none_of(counts.send.begin(), counts.send.end(), is_negative) &&
               std::none_of(counts.receive.begin(), counts.receive.end(), is_negative),
           "all_to_all_v '{}': expected {} counts >= 0 each way, got {} to send and {} to receive",
           what, size, counts.send.size(), counts.receive.size());
}

void copy_bytes(void* to, const void* from, int64_t bytes) {
  if (bytes > 0) std::memcpy(to, from, bytes);
}

void Communicator::all_to_all_v(const void* send, void* receive, const ExchangeCounts& counts,
                                const char* what) {
  start_all_to_all_v(send, receive, counts, what)->wait();
}

void Communicator::all_gather(const void* send, void* receive, int64_t bytes, const char* what) {
  start_all_gather(send, receive, bytes, what)->wait();
}

std::byte* Communicator::scratch(int64_t bytes) {
  if (static_cast<int64_t>(scratch_.size()) < bytes) scratch_.resize(bytes);
  return scratch_.data();
}

void Communicator::reduce_gathered(std::byte* data, int64_t count, DType dtype, ReduceOp op,
                                   const char* what) {
  const int64_t bytes = count * static_cast<int64_t>(size_of(dtype));
  std::byte* blocks = scratch(bytes * size());
  all_gather(data, blocks, bytes, what);
  fold(blocks, size(), count, dtype, op);
  std::memcpy(data, blocks, bytes);
}

void Communicator::reduce_sliced(std::byte* data, int64_t count, DType dtype, ReduceOp op,
                                 const char* what) {
  const int64_t slice = count / size();
  slices_.send.assign(size(), 1);
  slices_.receive.assign(size(), 1);
  slices_.row_bytes = slice * static_cast<int64_t>(size_of(dtype));
  std::byte* blocks = scratch(slices_.row_bytes * size());
  all_to_all_v(data, blocks, slices_, what);
  fold(blocks, size(), slice, dtype, op);
  all_gather(blocks, data, slices_.row_bytes, what);
}

void Communicator::all_reduce(void* data, int64_t count, DType dtype, ReduceOp op,
                              const char* what) {
  SY_CHECK(dtype != DType::kBFloat16, "all_reduce({}): BF16 would round at every hop: use F32",
           what);
  if (size() == 1) return;
  const int64_t element_bytes = static_cast<int64_t>(size_of(dtype));
  const int64_t chunk = kChunkBytes / element_bytes / size() * size();
  std::byte* next = static_cast<std::byte*>(data);
  while (count * element_bytes > kSmallBytes) {
    const int64_t piece = std::min(chunk, count / size() * size());
    if (piece == 0) break;  // more ranks than elements
    reduce_sliced(next, piece, dtype, op, what);
    next += piece * element_bytes;
    count -= piece;
  }
  if (count > 0) reduce_gathered(next, count, dtype, op, what);
}

template <typename T>
void Communicator::all_reduce(std::span<T> data, ReduceOp op, const char* what) {
  all_reduce(data.data(), static_cast<int64_t>(data.size()), dtype_of<T>(), op, what);
}
template void Communicator::all_reduce(std::span<uint8_t>, ReduceOp, const char*);
template void Communicator::all_reduce(std::span<int32_t>, ReduceOp, const char*);
template void Communicator::all_reduce(std::span<int64_t>, ReduceOp, const char*);
template void Communicator::all_reduce(std::span<float>, ReduceOp, const char*);
template void Communicator::all_reduce(std::span<double>, ReduceOp, const char*);

double Communicator::all_reduce(double value, ReduceOp op, const char* what) {
  all_reduce(std::span<double>(&value, 1), op, what);
  return value;
}

std::vector<std::string> Communicator::all_gather_text(const std::string& text, const char* what) {
  const int64_t length = static_cast<int64_t>(text.size());
  std::vector<int64_t> lengths(size());
  all_gather(&length, lengths.data(), sizeof length, what);
  const int64_t longest = *std::max_element(lengths.begin(), lengths.end());
  std::string padded = text;
  padded.resize(longest);
  std::string blocks(longest * size(), '\0');
  all_gather(padded.data(), blocks.data(), longest, what);
  std::vector<std::string> texts;
  for (int r = 0; r < size(); ++r) texts.push_back(blocks.substr(r * longest, lengths[r]));
  return texts;
}

}  // namespace switchyard::parallel
