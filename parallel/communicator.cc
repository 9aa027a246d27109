#include "parallel/communicator.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <type_traits>

namespace switchyard::parallel {
namespace {

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

void copy_bytes(void* to, const void* from, int64_t bytes) {
  if (bytes > 0 && to != from) std::memcpy(to, from, bytes);
}

void Communicator::all_to_all_v(const void* send, void* receive, const ExchangeCounts& counts,
                                const char* what) {
  start_all_to_all_v(send, receive, counts, what)->wait();
}

void Communicator::all_gather(const void* send, void* receive, int64_t bytes, const char* what) {
  start_all_gather(send, receive, bytes, what)->wait();
}

void Communicator::all_reduce(void* data, int64_t count, DType dtype, ReduceOp op,
                              const char* what) {
  start_all_reduce(data, count, dtype, op, what)->wait();
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
