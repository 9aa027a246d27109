#include "parallel/flight_report.h"

#include <csignal>
#include <filesystem>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/io/file_system.h"
#include "parallel/watchdog.h"

namespace switchyard::parallel {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

TEST(FlightRecorder, KeepsTheLatestOperationsAndTheirStates) {
  RankBoard board{};
  uint64_t last = 0;
  for (uint64_t sequence = 1; sequence <= RankBoard::kRecords + 10; ++sequence)
    last = add_record(board, {.kind = OperationKind::kBarrier, .sequence = sequence});
  set_state(board, last, Record::State::kFinished);
  set_state(board, 3, Record::State::kFailed);  // overwritten meanwhile: no effect
  Record record;
  EXPECT_FALSE(read_record(board, 10, record));
  ASSERT_TRUE(read_record(board, 11, record));
  EXPECT_EQ(record.sequence, 11u);
  EXPECT_EQ(record.end, 0);
  ASSERT_TRUE(read_record(board, last, record));
  EXPECT_EQ(record.state, Record::State::kFinished);
  EXPECT_GT(record.end, 0);
  for (uint64_t id = 11; id < last; ++id) {
    ASSERT_TRUE(read_record(board, id, record));
    EXPECT_EQ(record.state, Record::State::kStarted) << id;
  }
}

// Two ranks of this node, and one of another. The first waits for the second.
struct FlightReports : testing::Test {
  FlightReports() {
    fs::remove_all(folder);
    fs::create_directories(folder);
    set_flight_boards(boards);
    set_flight_folder(records());
    watch = std::make_shared<RankWatch>(0, boards);
    watch->activity().begin_step(8);
    watch->activity().begin(Phase::kForward, 1);
    watch->activity().enter_layer(3);
    group = std::make_unique<GroupWatch>(BoardSlot(watch, "expert[0]"), "expert[0]",
                                         std::vector<Member>{{0, 0, 0}, {1, 0, 0}}, 600);
    group->begin_wait(group->start(
        {.kind = OperationKind::kAllToAllV, .what = "a \"quoted\" name", .bytes_out = 8}));
  }
  ~FlightReports() override {
    set_flight_boards({});
    set_flight_folder("");
  }

  std::string records() const { return folder + "/hang/start"; }
  std::string text(int rank) const {
    return read_text_file(fmt::format("{}/rank_{}.jsonl", records(), rank), 1 << 20);
  }

  const std::string folder = testing::TempDir() + "flight_report";
  RankBoard first{}, second{};
  std::vector<RankBoard*> boards{&first, &second, nullptr};
  std::shared_ptr<RankWatch> watch;
  std::unique_ptr<GroupWatch> group;
};

TEST_F(FlightReports, AreWrittenForAllRanksOfTheNode) {
  write_flight_records(FlightReport::kBegin);
  EXPECT_THAT(text(0),
              AllOf(HasSubstr("\"rank\":0,\"ranks\":3,"), HasSubstr("\"phase\":\"forward\""),
                    HasSubstr("{\"group\":\"expert[0]\",\"size\":2,\"started\":1}\n"),
                    HasSubstr("{\"operation\":\"all_to_all_v\",\"sequence\":1,\"what\":\"a "
                              "_quoted_ name\",\"of\":\"expert[0]\",\"bytes_out\":8,"),
                    HasSubstr("\"state\":\"awaited\",\"phase\":\"forward\",\"step\":8,"
                              "\"micro_batch\":1,\"layer\":3,")));
  EXPECT_THAT(text(1), AllOf(HasSubstr("\"rank\":1,"), Not(HasSubstr("operation"))));
  EXPECT_FALSE(fs::exists(records() + "/rank_2.jsonl"));
}

TEST_F(FlightReports, AreWrittenOnceHoweverManyRanksFail) {
  write_flight_records(FlightReport::kBegin);
  fs::remove_all(records());
  write_flight_records(FlightReport::kBegin);
  EXPECT_TRUE(fs::is_empty(records()));
}

TEST_F(FlightReports, AreJoinedOnlyWhereARankHasBegunThem) {
  write_flight_records(FlightReport::kJoin);
  EXPECT_FALSE(fs::exists(records()));
  fs::create_directories(records());
  first.filed = 0;
  write_flight_records(FlightReport::kJoin);
  EXPECT_THAT(text(0), HasSubstr("\"rank\":0,"));
}

TEST_F(FlightReports, AreWrittenWhenASignalAsks) {
  install_flight_report();
  std::raise(SIGUSR2);
  EXPECT_THAT(text(0), HasSubstr("\"rank\":0,"));
  std::signal(SIGUSR2, SIG_DFL);
}

TEST_F(FlightReports, AreWrittenByARankWhoseWaitFails) {
  const Ticket ticket = group->start({.kind = OperationKind::kBarrier, .what = "end"});
  EXPECT_THROW(group->fail(ticket, "for a test"), std::exception);
  EXPECT_THAT(text(0), HasSubstr("\"what\":\"end\""));
}

}  // namespace
}  // namespace switchyard::parallel
