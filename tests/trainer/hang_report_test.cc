#include "trainer/log/hang_report.h"

#include <csignal>
#include <filesystem>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/errors.h"
#include "core/io/file_system.h"
#include "parallel/flight_report.h"
#include "parallel/watchdog.h"
#include "trainer/signals.h"

namespace switchyard::trainer {
namespace {

namespace fs = std::filesystem;
using parallel::Operation;
using parallel::OperationKind;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::ThrowsMessage;

constexpr Operation kCounts{.kind = OperationKind::kAllGather, .what = "counts", .bytes_out = 8};
constexpr Operation kRows{.kind = OperationKind::kAllToAllV, .what = "dispatch", .bytes_out = 64};

// Four ranks, of which 0 and 1, 2 and 3 are a pair each, and what they leave behind.
struct HangReports : ::testing::Test {
  struct Rank {
    std::shared_ptr<parallel::RankWatch> watch;
    std::unique_ptr<parallel::GroupWatch> world, pair;
  };

  HangReports() {
    fs::remove_all(folder);
    fs::create_directories(folder);
    std::vector<parallel::RankBoard*> pointers;
    for (auto& board : boards) pointers.push_back(&board);
    for (int rank = 0; rank < 4; ++rank) {
      ranks.push_back({std::make_shared<parallel::RankWatch>(rank, pointers), nullptr, nullptr});
      ranks[rank].world = group(rank, "world", {{0, 0, 0}, {1, 0, 0}, {2, 0, 0}, {3, 0, 0}});
      const int32_t first = rank / 2 * 2;
      ranks[rank].pair =
          group(rank, fmt::format("pair[{}]", rank / 2), {{first, 1, 0}, {first + 1, 1, 0}});
      finish(*ranks[rank].world, kCounts);
    }
    parallel::set_flight_boards(ranks[0].watch->boards());
  }
  ~HangReports() override {
    parallel::set_flight_boards({});
    parallel::set_flight_folder("");
  }

  std::unique_ptr<parallel::GroupWatch> group(int rank, const std::string& name,
                                              std::vector<parallel::Member> members) {
    return std::make_unique<parallel::GroupWatch>(parallel::BoardSlot(ranks[rank].watch, name),
                                                  name, std::move(members), 600);
  }
  static void finish(parallel::GroupWatch& group, const Operation& operation) {
    group.finish(group.start(operation));
  }
  static void wait(parallel::GroupWatch& group, const Operation& operation) {
    group.begin_wait(group.start(operation));
  }

  std::string report() {
    parallel::set_flight_folder(folder + "/hang/start");
    parallel::write_flight_records(parallel::FlightReport::kBegin);
    return hang_report(read_hang_records(folder));
  }

  const std::string folder = ::testing::TempDir() + "hang_report";
  std::array<parallel::RankBoard, 4> boards{};
  std::vector<Rank> ranks;
};

// Rank 1 computes; its partner waits for it, and everybody else for the two.
TEST_F(HangReports, NameTheRankThatNobodyHoldsUp) {
  ranks[1].watch->activity().begin_step(8);
  ranks[1].watch->activity().begin(parallel::Phase::kBackward, 0);
  ranks[1].watch->activity().enter_layer(5);
  wait(*ranks[0].pair, kRows);
  for (const int rank : {2, 3}) {
    finish(*ranks[rank].pair, kRows);
    wait(*ranks[rank].world, kCounts);
  }
  const std::string text = report();
  EXPECT_THAT(text, AllOf(HasSubstr("4 of 4 ranks"), HasSubstr("first out of step: rank 1 (host "),
                          HasSubstr("outside any collective, the last was all_gather #1 'counts' "
                                    "of world"),
                          HasSubstr("step 8, backward, micro-batch 0, layer 5"),
                          HasSubstr("for rank 1 in all_to_all_v #1 'dispatch' of pair[0]"),
                          HasSubstr("for rank 1 in all_gather #2 'counts' of world")));
}

TEST_F(HangReports, NameRanksThatCallDifferentThings) {
  wait(*ranks[0].pair, kRows);
  wait(*ranks[1].pair, kCounts);
  EXPECT_THAT(report(), AllOf(HasSubstr("different operations under one number"),
                              HasSubstr("called all_to_all_v #1 'dispatch' of pair[0], 64 B"),
                              HasSubstr("called all_gather #1 'counts' of pair[0], 8 B")));
}

TEST_F(HangReports, NameRanksThatWaitForOneAnother) {
  wait(*ranks[0].pair, kRows);
  for (const int rank : {1, 2, 3}) wait(*ranks[rank].world, kCounts);
  EXPECT_THAT(report(), AllOf(HasSubstr("wait for one another"),
                              HasSubstr("for rank 1 in all_to_all_v #1 'dispatch' of pair[0]"),
                              HasSubstr("for rank 0 in all_gather #2 'counts' of world")));
}

TEST_F(HangReports, SayWhoLeftNoRecord) {
  for (const int rank : {0, 1, 2}) wait(*ranks[rank].world, kCounts);
  report();
  fs::remove(folder + "/hang/start/rank_3.jsonl");
  EXPECT_THAT(hang_report(read_hang_records(folder)),
              AllOf(HasSubstr("out of step: a rank without a record, or its machine (rank 3)\n"),
                    HasSubstr("of world; 1 of its 4 members left no record"),
                    HasSubstr("  rank 3: no record")));
}

// An operation that was started and not yet waited for holds nobody up.
TEST_F(HangReports, DoNotBlameWhoIsBehindInWhatNobodyWaitsFor) {
  ranks[0].pair->start(kRows);
  EXPECT_THAT(report(), HasSubstr("no rank waited for one that was behind"));
}

TEST_F(HangReports, TellGroupsOfOneNameApart) {
  ranks[0].pair.reset();
  ranks[0].pair = group(0, "pair[0]", {{0, 1, 0}, {1, 1, 0}});
  finish(*ranks[0].pair, kRows);
  finish(*ranks[1].pair, kRows);
  ranks[1].world.reset();
  ranks[1].world = group(1, "world", {{0, 0, 0}, {1, 0, 0}, {2, 0, 0}, {3, 0, 0}});
  EXPECT_THAT(report(), Not(HasSubstr("different operations")));
}

TEST_F(HangReports, ReadWhatAKilledRankHadWritten) {
  report();
  const std::string path = folder + "/hang/start/rank_2.jsonl";
  std::string text = read_text_file(path, 1 << 20);
  fs::resize_file(path, text.size() - 5);
  EXPECT_THAT(hang_report(read_hang_records(folder)), HasSubstr("4 of 4 ranks"));
}

// As when another machine has given up: this rank may be why, and has no more time than this.
TEST_F(HangReports, AreJoinedByARankThatIsToldToEnd) {
  const StopSignals signals;
  parallel::set_flight_folder(folder + "/hang/start");
  std::raise(SIGTERM);
  EXPECT_FALSE(fs::exists(folder + "/hang"));
  fs::create_directories(folder + "/hang/start");
  const StopSignals again;
  std::raise(SIGTERM);
  EXPECT_THAT(hang_report(read_hang_records(folder)), HasSubstr("4 of 4 ranks"));
}

TEST_F(HangReports, RefuseWhatIsNoRecord) {
  EXPECT_THAT([&] { read_hang_records(folder); },
              ThrowsMessage<ConfigError>(HasSubstr("no flight records")));
  fs::create_directories(folder + "/hang/start");
  const std::string line = "{\"version\":2}\n";
  write_file_atomically(FileSystem(), folder + "/hang/start/rank_0.jsonl",
                        std::as_bytes(std::span(line)));
  EXPECT_THAT([&] { read_hang_records(folder); },
              ThrowsMessage<DataError>(HasSubstr("rank_0.jsonl:1: not as a run writes it")));
}

}  // namespace
}  // namespace switchyard::trainer
