#include "parallel/thread.h"

#include <atomic>
#include <chrono>
#include <thread>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/errors.h"
#include "tests/parallel/communicator_suite.h"

namespace switchyard::parallel {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class ThreadConforms : public testing::TestWithParam<std::tuple<suite::Behaviour, int, bool>> {};

TEST_P(ThreadConforms, ToTheSuite) {
  const auto& [behaviour, size, is_checked] = GetParam();
  ThreadGroup(size, 60, is_checked).run([&](Communicator& world) { behaviour.check(world); });
}

INSTANTIATE_TEST_SUITE_P(Suite, ThreadConforms,
                         testing::Combine(testing::ValuesIn(suite::behaviours()),
                                          testing::Values(1, 2, 3, 4), testing::Bool()),
                         [](const auto& test) {
                           return fmt::format("{}_{}ranks{}", std::get<0>(test.param).name,
                                              std::get<1>(test.param),
                                              std::get<2>(test.param) ? "_checked" : "");
                         });

// Runs, and returns what each rank's CommError said; empty for a rank without one.
std::vector<std::string> errors_of(const ThreadGroup& group, int size,
                                   const std::function<void(Communicator&)>& rank_main) {
  std::vector<std::string> errors(size);
  try {
    group.run([&](Communicator& world) {
      try {
        rank_main(world);
      } catch (const CommError& error) {
        errors[world.rank()] = error.what();
        throw;
      }
    });
  } catch (const Error&) {
  }
  return errors;
}

TEST(ThreadGroup, RethrowsTheFirstExceptionAndReleasesTheOthers) {
  const ThreadGroup group(3);
  std::atomic<int> num_released = 0;
  EXPECT_THAT(
      [&] {
        group.run([&](Communicator& world) {
          if (world.rank() == 2) throw DataError("tokens are missing");
          try {
            world.barrier("never met");
          } catch (const CommError& error) {
            EXPECT_THAT(error.what(), AllOf(HasSubstr("rank 2 failed: tokens are missing"),
                                            HasSubstr("barrier #1 'never met' of world")));
            ++num_released;
          }
        });
      },
      testing::ThrowsMessage<DataError>("tokens are missing"));
  EXPECT_EQ(num_released, 2);
}

TEST(ThreadGroup, NamesTheRankThatDoesNotArriveInTime) {
  std::atomic<int> num_failed = 0;
  const auto errors = errors_of(ThreadGroup(3, 0.2), 3, [&](Communicator& world) {
    const auto pair = world.split(world.rank() / 2, fmt::format("expert[{}]", world.rank() / 2));
    world.barrier("start");
    if (world.rank() == 1) {  // hangs in its own computation until the others have given up
      while (num_failed < 2) std::this_thread::yield();
      return;
    }
    try {
      const int64_t value = 0;
      int64_t all[3];
      world.all_gather(&value, all, 8, "counts of layer 3");
    } catch (...) {
      ++num_failed;
      throw;
    }
  });
  EXPECT_EQ(errors[1], "");
  for (const int rank : {0, 2}) {
    EXPECT_THAT(errors[rank],
                AllOf(HasSubstr("all_gather #3 'counts of layer 3' of world, 8 B out, 24 B in"),
                      HasSubstr("missing: rank 1 "),
                      HasSubstr("rank 1: outside any collective, the last was barrier #2 'start'"),
                      HasSubstr(fmt::format("last operations of rank {}", rank))));
  }
}

TEST(ThreadGroup, NamesGroupAndWorldRankWhenAMemberOfASmallGroupIsMissing) {
  std::atomic<bool> has_failed = false;
  const auto errors = errors_of(ThreadGroup(4, 0.2), 4, [&](Communicator& world) {
    const auto pair = world.split(world.rank() / 2, world.rank() < 2 ? "left" : "right");
    if (world.rank() == 3) {
      while (!has_failed) std::this_thread::yield();
    } else if (world.rank() == 2) {
      try {
        pair->barrier("pair");
      } catch (...) {
        has_failed = true;
        throw;
      }
    } else {
      pair->barrier("pair");
    }
  });
  EXPECT_EQ(errors[0] + errors[1] + errors[3], "");
  EXPECT_THAT(errors[2],
              AllOf(HasSubstr("barrier #1 'pair' of right"), HasSubstr("missing: rank 3 ")));
}

TEST(ThreadGroup, SaysWhichRankCallsAnotherOperation) {
  const auto errors = errors_of(ThreadGroup(2), 2, [](Communicator& world) {
    int64_t value[2] = {};
    if (world.rank() == 0) world.barrier("end of step");
    if (world.rank() == 1) world.all_gather(&value[0], value, 4, "eval");
  });
  EXPECT_THAT(errors[0] + errors[1], AllOf(HasSubstr("ranks call different operations"),
                                           HasSubstr("rank 1: in all_gather #1 'eval' of world")));
}

// Rank 0 drops a sum whose slices have arrived, and which nobody can finish without it.
TEST(ThreadGroup, TellsOthersThatAReductionWasGivenUpHalfWay) {
  const auto errors = errors_of(ThreadGroup(2, 20), 2, [](Communicator& world) {
    const auto other = world.split(0, "other");
    std::vector<double> values(10'000, 1.0);
    const auto start = [&] {
      return world.start_all_reduce(values.data(), std::ssize(values), DType::kFloat64,
                                    ReduceOp::kSum, "sum");
    };
    if (world.rank() == 1) {
      const auto work = start();
      other->barrier("rank 1 has started");
      work->wait();
    } else {
      other->barrier("rank 1 has started");
      start();
      world.barrier("too late");
    }
  });
  EXPECT_THAT(errors[0], HasSubstr("'sum' of world: this rank gave it up half-way"));
  EXPECT_THAT(errors[1], HasSubstr("rank 0 gave up 'sum' of world"));
}

TEST(ThreadGroup, RefusesSizesThatRanksDoNotAgreeOn) {
  const auto gather = errors_of(ThreadGroup(2), 2, [](Communicator& world) {
    int64_t value[4] = {};
    world.all_gather(&value[0], value, 8 * (1 + world.rank()), "eval");
  });
  EXPECT_THAT(gather[0], HasSubstr("different sizes (8 B and 16 B)"));
  const auto exchange = errors_of(ThreadGroup(2), 2, [](Communicator& world) {
    int64_t send[4] = {}, receive[8];
    world.all_to_all_v(send, receive, {{1, 2}, {1, 1}, 8}, "rows");
  });
  EXPECT_THAT(exchange[1], HasSubstr("sends 16 B to rank 1, which expects 8 B"));
}

// Most of these would move data, hang, or come to a wrong sum.
TEST(CheckedThreadGroup, NamesBothCallsThatDifferBeforeDataMoves) {
  struct Case {
    std::function<void(Communicator&, double*)> calls[2];  // of rank 0 and of rank 1
    std::string first, second;
  };
  const auto sum = [](int64_t count, DType dtype, ReduceOp op) {
    return [=](Communicator& world, double* values) {
      world.all_reduce(values, count, dtype, op, "loss");
    };
  };
  const auto gather = [](int64_t bytes, const char* what) {
    return [=](Communicator& world, double* values) {
      world.all_gather(values + 64, values, bytes, what);
    };
  };
  const auto exchange = [](int64_t to_other, int64_t from_other) {
    return [=](Communicator& world, double* values) {
      const auto counts = [&](int64_t other) {
        return world.rank() == 0 ? std::vector<int64_t>{1, other} : std::vector<int64_t>{other, 1};
      };
      world.all_to_all_v(values + 64, values, {counts(to_other), counts(from_other), 8}, "rows");
    };
  };
  const auto barrier = [](Communicator& world, double*) { world.barrier("end"); };
  const Case cases[] = {
      {{barrier, gather(8, "eval")}, "barrier 'end' of 0 B", "all_gather 'eval' of 8 B"},
      {{gather(8, "eval"), gather(16, "eval")}, "'eval' of 8 B", "'eval' of 16 B"},
      {{gather(8, "eval"), gather(8, "loss")}, "'eval' of 8 B", "'loss' of 8 B"},
      {{sum(2, DType::kFloat64, ReduceOp::kSum), sum(2, DType::kFloat64, ReduceOp::kMax)},
       "all_reduce 'loss' of 16 B, sum in F64",
       "all_reduce 'loss' of 16 B, max in F64"},
      {{sum(2, DType::kFloat64, ReduceOp::kSum), sum(4, DType::kFloat32, ReduceOp::kSum)},
       "sum in F64",
       "sum in F32"},
      {{exchange(1, 2), exchange(1, 1)},
       "all_to_all_v 'rows' with 8 B to the other, 16 B from it",
       "all_to_all_v 'rows' with 8 B to the other, 8 B from it"},
  };
  for (const Case& c : cases) {
    const auto errors = errors_of(ThreadGroup(2, 20, true), 2, [&](Communicator& world) {
      std::vector<double> values(128, 1.0);
      c.calls[world.rank()](world, values.data());
    });
    EXPECT_THAT(errors[0], AllOf(HasSubstr("rank 0 of the group calls"), HasSubstr(c.first),
                                 HasSubstr("rank 1 of it calls"), HasSubstr(c.second)));
  }
}

TEST(ThreadGroup, ReleasesPeersWhenAWorkIsDroppedUnfinished) {
  const auto errors = errors_of(ThreadGroup(2), 2, [](Communicator& world) {
    int64_t value[2] = {};
    if (world.rank() == 1) world.start_all_gather(&value[0], value, 8, "never");
    if (world.rank() == 0) world.barrier("first"), world.barrier("second");
  });
  EXPECT_NE(errors[0], "");
}

TEST(ThreadGroup, AbortRethrowsTheMessageWithItsExitCode) {
  try {
    ThreadGroup(2).run([](Communicator& world) {
      if (world.rank() == 1) world.abort(6, "loss is NaN");
      world.barrier("end");
    });
    FAIL() << "no exception";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kNumerics);
    EXPECT_STREQ(error.what(), "loss is NaN");
  }
}

TEST(ThreadGroup, RefusesMoreGroupsThanABoardHolds) {
  EXPECT_THAT(
      [] {
        ThreadGroup(2).run([](Communicator& world) {
          std::vector<std::unique_ptr<Communicator>> groups;
          for (int i = 0; i < 64; ++i) groups.push_back(world.split(0, fmt::format("g{}", i)));
        });
      },
      testing::ThrowsMessage<CommError>(HasSubstr("a rank can be in 64 groups at a time")));
}

}  // namespace
}  // namespace switchyard::parallel
