#include "tests/parallel/communicator_suite.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <type_traits>

#include <gtest/gtest.h>

#include "parallel/pipeline.h"

namespace switchyard::parallel::suite {
namespace {

// Rows that rank `from` sends to rank `to`, for each pattern.
using Pattern = int64_t (*)(int from, int to, int size);

int64_t uniform(int, int, int) { return 5; }
int64_t variable(int from, int to, int size) { return 1 + (3 * from + 7 * to) % 11; }
int64_t some_empty(int from, int to, int size) { return (from + to) % 2 == 0 ? 0 : 4; }
int64_t all_empty(int, int, int) { return 0; }
int64_t one_rank_gets_all(int, int to, int size) { return to == size - 1 ? 9 : 0; }
int64_t one_rank_sends_all(int from, int, int) { return from == 0 ? 9 : 0; }
constexpr Pattern kPatterns[] = {uniform,   variable,          some_empty,
                                 all_empty, one_rank_gets_all, one_rank_sends_all};

// A row says where it comes from, where it goes and which one it is.
struct Row {
  int32_t from, to, index;
  bool operator==(const Row&) const = default;
};

struct Exchange {
  ExchangeCounts counts;
  std::vector<Row> send, receive, expected;

  Exchange(int rank, int size, Pattern pattern) {
    counts.row_bytes = sizeof(Row);
    for (int peer = 0; peer < size; ++peer) {
      counts.send.push_back(pattern(rank, peer, size));
      counts.receive.push_back(pattern(peer, rank, size));
      for (int i = 0; i < counts.send.back(); ++i) send.push_back({rank, peer, i});
      for (int i = 0; i < counts.receive.back(); ++i) expected.push_back({peer, rank, i});
    }
    receive.assign(expected.size(), {-1, -1, -1});
  }
};

void moves_every_row_to_its_rank(Communicator& world) {
  for (const Pattern pattern : kPatterns) {
    Exchange e(world.rank(), world.size(), pattern);
    world.all_to_all_v(e.send.data(), e.receive.data(), e.counts, "rows");
    EXPECT_TRUE(e.receive == e.expected);
  }
}

void gathers_blocks_in_rank_order(Communicator& world) {
  for (const int64_t length : {0, 1, 1000}) {
    const std::vector<int32_t> own(length, 10 + world.rank());
    std::vector<int32_t> all(length * world.size(), -1);
    world.all_gather(own.data(), all.data(), length * 4, "blocks");
    for (int64_t i = 0; i < std::ssize(all); ++i) ASSERT_EQ(all[i], 10 + i / length);
  }
}

void broadcasts_from_every_root(Communicator& world) {
  for (int root = 0; root < world.size(); ++root) {
    for (const int64_t length : {0, 1, 5000}) {
      std::vector<int32_t> data(length, world.rank() == root ? 100 + root : -1);
      world.broadcast(data.data(), length * 4, root, "data");
      EXPECT_EQ(data, std::vector<int32_t>(length, 100 + root));
    }
  }
}

void keeps_two_works_apart_and_waits_in_any_order(Communicator& world) {
  Exchange first(world.rank(), world.size(), variable);
  Exchange second(world.rank(), world.size(), one_rank_gets_all);
  auto a = world.start_all_to_all_v(first.send.data(), first.receive.data(), first.counts, "a");
  auto b = world.start_all_to_all_v(second.send.data(), second.receive.data(), second.counts, "b");
  const bool is_odd = world.rank() % 2 == 1;
  (is_odd ? b : a)->wait();
  (is_odd ? a : b)->wait();
  EXPECT_TRUE(first.receive == first.expected);
  EXPECT_TRUE(second.receive == second.expected);
}

void completes_by_test_alone(Communicator& world) {
  Exchange e(world.rank(), world.size(), variable);
  auto work = world.start_all_to_all_v(e.send.data(), e.receive.data(), e.counts, "tested");
  while (!work->test()) {
  }
  EXPECT_TRUE(e.receive == e.expected);
  work->wait();
}

// Values whose floating-point sum depends on the order: magnitudes from 1e-3 to 1e3.
template <typename T>
T value_of(int rank, int64_t i) {
  if constexpr (std::is_integral_v<T>) return static_cast<T>(1 + (rank * 31 + i * 7) % 50);
  const double mixed = std::sin(1.0 + 7.0 * rank + 0.013 * static_cast<double>(i));
  return static_cast<T>(mixed * std::pow(10.0, (rank + i) % 7 - 3));
}

template <typename T>
T serial_fold(int size, int64_t i, ReduceOp op) {
  T result = value_of<T>(0, i);
  for (int rank = 1; rank < size; ++rank) {
    const T next = value_of<T>(rank, i);
    if (op == ReduceOp::kSum) result = static_cast<T>(result + next);
    if (op == ReduceOp::kMax) result = std::max(result, next);
    if (op == ReduceOp::kMin) result = std::min(result, next);
  }
  return result;
}

template <typename T>
void expect_rank_ordered(Communicator& world, int64_t count, ReduceOp op) {
  std::vector<T> data(count);
  for (int64_t i = 0; i < count; ++i) data[i] = value_of<T>(world.rank(), i);
  world.all_reduce(std::span<T>(data), op, "values");
  int64_t num_wrong = 0;
  for (int64_t i = 0; i < count; ++i) num_wrong += data[i] != serial_fold<T>(world.size(), i, op);
  EXPECT_EQ(num_wrong, 0) << count << " elements of " << sizeof(T) << " bytes";
}

// Around the limit between the two ways to reduce (16 KiB that arrive), with and without a
// remainder.
template <typename T>
void expect_rank_ordered_at_all_sizes(Communicator& world) {
  const int64_t limit = 16384 / std::max(1, world.size() - 1) / static_cast<int64_t>(sizeof(T));
  for (const int64_t count : {int64_t{0}, int64_t{1}, int64_t{7}, limit - 1, limit, limit + 1,
                              2 * limit + 3, 5 * limit}) {
    for (const ReduceOp op : {ReduceOp::kSum, ReduceOp::kMax, ReduceOp::kMin}) {
      expect_rank_ordered<T>(world, count, op);
    }
  }
}

void reduces_in_rank_order_bit_for_bit(Communicator& world) {
  expect_rank_ordered_at_all_sizes<float>(world);
  expect_rank_ordered_at_all_sizes<double>(world);
  expect_rank_ordered_at_all_sizes<int32_t>(world);
  expect_rank_ordered_at_all_sizes<int64_t>(world);
  expect_rank_ordered_at_all_sizes<uint8_t>(world);
}

void reduces_buffers_of_several_chunks(Communicator& world) {
  const int64_t chunk_bytes = 16 << 20;
  expect_rank_ordered<int64_t>(world, chunk_bytes / 8 + 5, ReduceOp::kSum);
}

template <typename T>
std::vector<T> values_of(int rank, int64_t count) {
  std::vector<T> values(count);
  for (int64_t i = 0; i < count; ++i) values[i] = value_of<T>(rank, i);
  return values;
}

template <typename T>
struct Reduction {
  Reduction(Communicator& world, int64_t count, DType dtype, ReduceOp o)
      : data(values_of<T>(world.rank(), count)), size(world.size()), op(o) {
    work = world.start_all_reduce(data.data(), count, dtype, o, "values");
  }
  void expect_correct() const {
    int64_t num_wrong = 0;
    for (int64_t i = 0; i < std::ssize(data); ++i)
      num_wrong += data[i] != serial_fold<T>(size, i, op);
    EXPECT_EQ(num_wrong, 0) << data.size() << " elements of " << sizeof(T) << " bytes";
  }

  std::vector<T> data;
  int size;
  ReduceOp op;
  std::unique_ptr<Work> work;
};

// Each rank sends other values to each, so that a slice that went astray shows.
void scatters_what_it_reduces(Communicator& world) {
  for (const int64_t count : {0, 1, 7, 3000}) {
    const std::vector<float> send = values_of<float>(world.rank(), count * world.size());
    std::vector<float> receive(count, -1);
    world
        .start_reduce_scatter(send.data(), receive.data(), count, DType::kFloat32, ReduceOp::kSum,
                              "slices")
        ->wait();
    for (int64_t i = 0; i < count; ++i)
      ASSERT_EQ(receive[i],
                serial_fold<float>(world.size(), world.rank() * count + i, ReduceOp::kSum));
  }
}

void scatters_into_its_own_slice(Communicator& world) {
  constexpr int64_t kCount = 5000;
  std::vector<float> data = values_of<float>(world.rank(), kCount * world.size());
  float* const own = data.data() + world.rank() * kCount;
  world.start_reduce_scatter(data.data(), own, kCount, DType::kFloat32, ReduceOp::kSum, "slices")
      ->wait();
  for (int64_t i = 0; i < kCount; ++i)
    ASSERT_EQ(own[i], serial_fold<float>(world.size(), world.rank() * kCount + i, ReduceOp::kSum));
}

// Small ones, ones in slices with a remainder, and movements between them. Each rank waits in an
// order of its own.
void keeps_several_reductions_under_way(Communicator& world) {
  Reduction<float> a(world, 5003, DType::kFloat32, ReduceOp::kSum);
  Reduction<double> b(world, 9, DType::kFloat64, ReduceOp::kMax);
  Exchange rows(world.rank(), world.size(), variable);
  auto exchange =
      world.start_all_to_all_v(rows.send.data(), rows.receive.data(), rows.counts, "rows");
  Reduction<int64_t> c(world, 4000, DType::kInt64, ReduceOp::kMin);
  const std::vector<double> send = values_of<double>(world.rank(), 600 * world.size());
  std::vector<double> slice(600);
  auto scatter = world.start_reduce_scatter(send.data(), slice.data(), 600, DType::kFloat64,
                                            ReduceOp::kSum, "slices");
  Reduction<float> d(world, 20'000, DType::kFloat32, ReduceOp::kSum);
  Work* const works[] = {a.work.get(), b.work.get(),  exchange.get(),
                         c.work.get(), scatter.get(), d.work.get()};
  for (size_t i = 0; i < std::size(works); ++i)
    works[(i * 5 + world.rank()) % std::size(works)]->wait();
  a.expect_correct();
  b.expect_correct();
  c.expect_correct();
  d.expect_correct();
  EXPECT_TRUE(rows.receive == rows.expected);
  for (int64_t i = 0; i < 600; ++i)
    ASSERT_EQ(slice[i], serial_fold<double>(world.size(), world.rank() * 600 + i, ReduceOp::kSum));
}

// Even ranks finish each operation before they start the next; odd ones start all at once, and the
// last rank first drives the first by test() as far as it goes.
void reduces_with_ranks_that_arrive_unequally(Communicator& world) {
  const bool is_eager = world.rank() % 2 == 0;
  Reduction<double> first(world, 3000, DType::kFloat64, ReduceOp::kSum);
  if (is_eager) first.work->wait();
  if (world.rank() == world.size() - 1 && !is_eager) first.work->test();
  Reduction<float> second(world, 6000, DType::kFloat32, ReduceOp::kSum);
  if (is_eager) second.work->wait();
  int32_t told = world.rank() == 0 ? 7 : -1;
  world.broadcast(&told, sizeof told, 0, "while others are under way");
  EXPECT_EQ(told, 7);
  if (!is_eager) {
    while (!second.work->test()) {
    }
    second.work->wait();
    first.work->wait();
  }
  first.expect_correct();
  second.expect_correct();
}

void reduces_one_value(Communicator& world) {
  const double n = world.size();
  EXPECT_EQ(world.all_reduce(world.rank() + 1.0, ReduceOp::kSum, "n"), n * (n + 1) / 2);
  EXPECT_EQ(world.all_reduce(world.rank() + 1.0, ReduceOp::kMax, "n"), n);
}

void keeps_a_nan_of_any_rank_in_max_and_min(Communicator& world) {
  for (int bad = 0; bad < world.size(); ++bad) {
    const double value = world.rank() == bad ? std::numeric_limits<double>::quiet_NaN() : 1.0;
    EXPECT_TRUE(std::isnan(world.all_reduce(value, ReduceOp::kMax, "nan")));
    EXPECT_TRUE(std::isnan(world.all_reduce(value, ReduceOp::kMin, "nan")));
  }
}

void gathers_texts_of_different_lengths(Communicator& world) {
  const std::string own(3 * world.rank(), static_cast<char>('a' + world.rank()));
  const std::vector<std::string> texts = world.all_gather_text(own, "texts");
  ASSERT_EQ(std::ssize(texts), world.size());
  for (int r = 0; r < world.size(); ++r) {
    EXPECT_EQ(texts[r], std::string(3 * r, static_cast<char>('a' + r)));
  }
  EXPECT_EQ(world.all_gather_text("", "none"), std::vector<std::string>(world.size()));
}

void passes_a_barrier(Communicator& world) {
  for (int i = 0; i < 3; ++i) world.barrier("again");
}

// Two groups at once, used in an order that differs between them.
void splits_into_groups_ordered_by_rank(Communicator& world) {
  const int color = world.rank() % 2;
  const auto half = world.split(color, color == 0 ? "even" : "odd");
  EXPECT_EQ(half->size(), (world.size() + 1 - color) / 2);
  EXPECT_EQ(half->rank(), world.rank() / 2);
  EXPECT_EQ(half->name(), color == 0 ? "even" : "odd");
  const auto all = world.split(0, "all");
  EXPECT_EQ(all->size(), world.size());
  int expected = 0;
  for (int r = color; r < world.size(); r += 2) expected += r;
  for (int i = 0; i <= color; ++i) {
    EXPECT_EQ(half->all_reduce(world.rank(), ReduceOp::kSum, "half"), expected);
  }
  EXPECT_EQ(all->all_reduce(1, ReduceOp::kSum, "all"), world.size());
}

void splits_a_group_again_and_again(Communicator& world) {
  for (int i = 0; i < 100; ++i) {  // more than a rank can have at a time
    const auto group = world.split(world.rank() / 2, "pair");
    const auto alone = group->split(group->rank(), "alone");
    EXPECT_EQ(alone->size(), 1);
    EXPECT_EQ(group->all_reduce(1, ReduceOp::kSum, "ones"), group->size());
  }
}

// Rows go one way and gradients the other at once, two of each on the way.
void passes_rows_and_gradients_between_stages(Communicator& world) {
  const Pipeline pipeline(world);
  const int stage = world.rank();
  for (const int64_t count : {0, 1, 300'000}) {
    const auto content = [&](int sender, int number) {
      return std::vector<int32_t>(count, 10 * sender + number);
    };
    const std::vector<int32_t> sent[] = {content(stage, 0), content(stage, 1), content(stage, 2),
                                         content(stage, 3)};
    std::vector<std::unique_ptr<Work>> works;
    for (const int i : {0, 1}) {
      if (!pipeline.is_last())
        works.push_back(pipeline.rows_out().start_send(sent[i].data(), count * 4, "rows"));
      if (!pipeline.is_first())
        works.push_back(
            pipeline.gradients_out().start_send(sent[i + 2].data(), count * 4, "gradients"));
    }
    std::vector<int32_t> came(count, -1);
    for (const int i : {0, 1}) {
      if (!pipeline.is_first()) {
        pipeline.rows_in().receive(came.data(), count * 4, "rows");
        EXPECT_EQ(came, content(stage - 1, i));
      }
      if (!pipeline.is_last()) {
        pipeline.gradients_in().receive(came.data(), count * 4, "gradients");
        EXPECT_EQ(came, content(stage + 1, i + 2));
      }
    }
    for (const auto& work : works) work->wait();
  }
}

void sums_over_the_ends_of_a_pipeline(Communicator& world) {
  const Pipeline pipeline(world);
  if (!pipeline.is_first() && !pipeline.is_last()) return;
  const int last = world.size() - 1;
  EXPECT_EQ(pipeline.ends().all_reduce(1 + world.rank(), ReduceOp::kSum, "ends"),
            last > 0 ? 2 + last : 1);
}

}  // namespace

#define SY_BEHAVIOUR(function) \
  { #function, function }
const std::vector<Behaviour>& behaviours() {
  static const std::vector<Behaviour> kAll = {
      SY_BEHAVIOUR(moves_every_row_to_its_rank),
      SY_BEHAVIOUR(gathers_blocks_in_rank_order),
      SY_BEHAVIOUR(broadcasts_from_every_root),
      SY_BEHAVIOUR(keeps_two_works_apart_and_waits_in_any_order),
      SY_BEHAVIOUR(completes_by_test_alone),
      SY_BEHAVIOUR(reduces_in_rank_order_bit_for_bit),
      SY_BEHAVIOUR(reduces_buffers_of_several_chunks),
      SY_BEHAVIOUR(scatters_what_it_reduces),
      SY_BEHAVIOUR(scatters_into_its_own_slice),
      SY_BEHAVIOUR(keeps_several_reductions_under_way),
      SY_BEHAVIOUR(reduces_with_ranks_that_arrive_unequally),
      SY_BEHAVIOUR(reduces_one_value),
      SY_BEHAVIOUR(keeps_a_nan_of_any_rank_in_max_and_min),
      SY_BEHAVIOUR(gathers_texts_of_different_lengths),
      SY_BEHAVIOUR(passes_a_barrier),
      SY_BEHAVIOUR(splits_into_groups_ordered_by_rank),
      SY_BEHAVIOUR(splits_a_group_again_and_again),
      SY_BEHAVIOUR(passes_rows_and_gradients_between_stages),
      SY_BEHAVIOUR(sums_over_the_ends_of_a_pipeline),
  };
  return kAll;
}
#undef SY_BEHAVIOUR

}  // namespace switchyard::parallel::suite
