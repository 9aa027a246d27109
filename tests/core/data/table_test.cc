#include "core/data/table.h"

#include <algorithm>
#include <cmath>
#include <set>

#include <gmock/gmock.h>

#include "core/base/errors.h"
#include "core/data/loader.h"
#include "tests/core/data/test_files.h"

namespace switchyard {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing_data::message_of;
using testing_data::write_file;

const TableColumns kColumns{{"F1", "F2"}, "Vowel", {"iy", "ah"}, "Speaker"};
const std::string kText =
    "Speaker,Vowel,F1,F2\n"
    "1,iy,100,2000\r\n"
    "1,ah,300,1000\n"
    "1,er,500,1\n"  // of no class
    "2,iy,200.5,2.5e3\n"
    "3,ah,400,900\n";

TEST(Table, TakesTheNamedColumnsOfTheRowsWithAClass) {
  const Table table = read_table(write_file("t.csv", kText), kColumns);
  EXPECT_EQ(table.num_cases(), 4);
  EXPECT_EQ(table.num_features, 2);
  EXPECT_THAT(table.features, ElementsAre(100, 2000, 300, 1000, 200.5, 2500, 400, 900));
  EXPECT_THAT(table.labels, ElementsAre(0, 1, 0, 1));
  EXPECT_THAT(table.groups, ElementsAre("1", "1", "2", "3"));
}

TEST(Table, SaysWhatIsWrongAndWhere) {
  const auto refused = [](const std::string& text, const TableColumns& columns = kColumns) {
    const std::string path = write_file("t.csv", text);
    return message_of<DataError>([&] { read_table(path, columns); });
  };
  EXPECT_THAT(refused(""), HasSubstr("t.csv: is empty"));
  EXPECT_THAT(refused("Speaker,Vowel,F1\n1,iy,2\n"),
              HasSubstr("t.csv:1: has no column \"F2\"; its columns are \"Speaker, Vowel, F1\""));
  EXPECT_THAT(refused("Speaker,Vowel,F1,F2\n1,iy,2\n"), HasSubstr("t.csv:2: 3 values, expected 4"));
  EXPECT_THAT(refused("Speaker,Vowel,F1,F2\n\n1,iy,2,high\n"),
              HasSubstr("t.csv:3: column 4 is \"high\", expected a finite number"));
  EXPECT_THAT(refused("Speaker,Vowel,F1,F2\n1,iy,2,nan\n"), HasSubstr("column 4 is \"nan\""));
  EXPECT_THAT(refused("Speaker,Vowel,F1,F2\n\"1\",iy,2,3\n"), HasSubstr("double quote"));
  EXPECT_THAT(refused("Speaker,Vowel,F1,F2\n1,iy,2,3\n"), HasSubstr("no row has the class \"ah\""));
}

TEST(Table, ShowsTheFilesBytesHarmlesslyAndShort) {
  const auto refused = [](const std::string& text) {
    const std::string path = write_file("t.csv", text);
    return message_of<DataError>([&] { read_table(path, kColumns); });
  };
  EXPECT_THAT(
      refused("\xEF\xBB\xBFSpeaker,Vowel,F1,F2\n1,iy,2,3\n"),
      HasSubstr("has no column \"Speaker\"; its columns are \"\\xef\\xbb\\xbfSpeaker, Vowel"));
  EXPECT_THAT(refused(std::string("Speaker,Vowel,F1,F2\n1,iy,2,\0\x1b[2J\n", 33)),
              HasSubstr("column 4 is \"\\x00\\x1b[2J\""));
  const std::string long_cell(1 << 20, 'x');
  EXPECT_LT(refused("Speaker,Vowel,F1,F2\n1,iy,2," + long_cell + "\n").size(), 400u);
  EXPECT_LT(refused("Speaker," + long_cell + "\n1,2\n").size(), 1400u);
}

TEST(Table, RefusesRepeatedNames) {
  const std::string path = write_file("t.csv", kText);
  EXPECT_THAT(message_of<ConfigError>([&] {
                read_table(path, {{"F1", "F1"}, "Vowel", {"iy"}, "Speaker"});
              }),
              HasSubstr("data.table.features (F1, F1)"));
}

Table speakers(int count) {
  Table table;
  table.num_features = table.num_classes = 1;
  for (int i = 0; i < 3 * count; ++i) {
    table.features.push_back(static_cast<float>(i));
    table.labels.push_back(0);
    table.groups.push_back(std::to_string(i / 3));
  }
  return table;
}

TEST(TableSplit, KeepsAGroupOnOneSide) {
  const Table table = speakers(76);
  const TableSplit split = split_by_group(table, 50, 25, 1);
  EXPECT_EQ(split.train.size(), 150u);
  EXPECT_EQ(split.test.size(), 75u);
  std::set<std::string> train, test;
  for (const int32_t i : split.train) train.insert(table.groups[static_cast<size_t>(i)]);
  for (const int32_t i : split.test) test.insert(table.groups[static_cast<size_t>(i)]);
  EXPECT_EQ(train.size(), 50u);
  EXPECT_EQ(test.size(), 25u);
  for (const std::string& name : test) EXPECT_FALSE(train.contains(name));
  EXPECT_EQ(split_by_group(table, 50, 25, 1).train, split.train);
  EXPECT_NE(split_by_group(table, 50, 25, 2).train, split.train);
}

TEST(TableSplit, RefusesMoreGroupsThanThereAre) {
  EXPECT_THAT(message_of<DataError>([] { split_by_group(speakers(5), 4, 2, 1); }),
              HasSubstr("need 6 groups, the table has 5"));
}

TEST(Standardize, UsesTheTrainingCasesOnly) {
  Table table = speakers(2);  // 0 .. 5
  standardize(table, {0, 1, 2, 3});
  const double deviation = std::sqrt(1.25);
  for (int i = 0; i < 6; ++i) {
    EXPECT_NEAR(table.features[static_cast<size_t>(i)], (i - 1.5) / deviation, 1e-6);
  }
  EXPECT_THAT(message_of<DataError>([&] { standardize(table, {2}); }),
              HasSubstr("is the same in all 1 training cases"));
}

TEST(CaseBatches, GiveEveryCaseOnceAnEpoch) {
  auto table = std::make_shared<Table>(speakers(4));
  for (size_t i = 0; i < table->labels.size(); ++i) table->labels[i] = static_cast<int32_t>(i % 3);
  table->num_classes = 3;
  const std::vector<int32_t> cases{1, 2, 5, 7, 8, 11};
  const auto source = std::make_shared<CaseSource>("train", cases, 99);
  const auto maker = case_batches(table);
  const Blend blend({{source, 1.0}}, 1, 3);
  EXPECT_EQ(blend.num_samples(), 6);
  BatchLoader loader(blend, {6, 1, 0, 1, 2, maker}, blend.start());
  for (int epoch = 0; epoch < 3; ++epoch) {
    const Batch batch = loader.next_step()[0];
    std::vector<int32_t> seen = batch.tokens;
    for (size_t i = 0; i < seen.size(); ++i) {
      EXPECT_EQ(batch.features[i], static_cast<float>(seen[i]));
      EXPECT_EQ(batch.targets[i], seen[i] % 3);
    }
    std::ranges::sort(seen);
    EXPECT_EQ(seen, cases);
  }
}

}  // namespace
}  // namespace switchyard
