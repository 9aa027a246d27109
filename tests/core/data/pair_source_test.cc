#include "core/data/pair_source.h"

#include <gmock/gmock.h>

#include "core/base/errors.h"
#include "core/data/sampler.h"
#include "core/data/token_file_writer.h"
#include "tests/core/data/test_files.h"

namespace switchyard {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing_data::message_of;

constexpr int32_t kEnd = 9;
constexpr PairLengths kLengths{4, 3};

std::shared_ptr<const TokenFile> file_of(const std::vector<std::vector<int32_t>>& documents) {
  const std::string prefix = testing_data::test_folder() + "pairs";
  TokenFileWriter writer(prefix, 20);
  for (const auto& document : documents) writer.add_document(document);
  writer.finish();
  return TokenFile::open(prefix, 20);
}

TEST(PairSource, IsARecordOfBothTextsCutOrFilledUp) {
  const PairSource source(file_of({{1, 2, 9}, {3, 4, 5, 6, 9}, {7, 8, 7, 8, 7, 9}, {1, 9}}),
                          kLengths, kEnd);
  EXPECT_EQ(source.num_tokens(), 14);
  std::vector<int32_t> records(14);
  source.read(0, records);
  EXPECT_THAT(records, ElementsAre(1, 2, 9, 9, 3, 4, 5, 7, 8, 7, 8, 1, 9, 9));
  EXPECT_EQ(Blend({{std::make_shared<PairSource>(source), 1.0}}, 7, 1).num_samples(), 2);
}

TEST(PairSource, FillsRowsWithSourceAndTarget) {
  const PairSource source(file_of({{1, 2, 9}, {3, 4, 5, 6, 9}, {7, 8, 7, 8, 7, 9}, {1, 9}}),
                          kLengths, kEnd);
  const auto maker = pair_batches(kLengths, kEnd);
  EXPECT_EQ(maker->sample_tokens(), 7);
  Batch batch = maker->make(0, 3);
  maker->fill(batch, 0, source, 0, 0);
  maker->fill(batch, 1, source, 7, 1);
  EXPECT_THAT(batch.source, ElementsAre(1, 2, 9, 0, 7, 8, 7, 8, 0, 0, 0, 0));
  EXPECT_THAT(batch.source_counts, ElementsAre(3, 4, 0));
  EXPECT_THAT(batch.tokens, ElementsAre(9, 3, 4, 9, 1, 0, 0, 0, 0));
  EXPECT_THAT(batch.targets, ElementsAre(3, 4, 5, 1, 9, -1, -1, -1, -1));
}

TEST(PairSource, RefusesATextWithoutItsTranslation) {
  const auto file = file_of({{1, 9}, {2, 9}, {3, 9}});
  EXPECT_THAT(message_of<DataError>([&] { PairSource(file, kLengths, kEnd); }),
              HasSubstr("3 documents, expected pairs"));
}

}  // namespace
}  // namespace switchyard
