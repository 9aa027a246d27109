#include "core/data/batch_maker.h"

#include <algorithm>
#include <array>

namespace switchyard {
namespace {

class NextToken final : public BatchMaker {
 public:
  NextToken(int64_t length, bool across_documents)
      : BatchMaker({.sample_tokens = length, .length = length}),
        across_documents_(across_documents) {}

  void fill(Batch& batch, int64_t row, const TokenSource& source, int64_t first,
            int64_t) const override {
    fill_row(batch, row, source, first);
    const int64_t length = batch.length;
    if (across_documents_) std::fill_n(batch.documents.begin() + row * length, length, 0);
  }

 private:
  bool across_documents_;
};

class Cases final : public BatchMaker {
 public:
  explicit Cases(std::shared_ptr<const Table> table)
      : BatchMaker({.sample_tokens = 1, .length = 1, .num_features = table->num_features}),
        table_(std::move(table)) {}

  void fill(Batch& batch, int64_t row, const TokenSource& source, int64_t first,
            int64_t) const override {
    std::array<int32_t, 1> number{};
    source.read(first, number);
    batch.tokens[static_cast<size_t>(row)] = number[0];
    batch.targets[static_cast<size_t>(row)] = table_->labels[static_cast<size_t>(number[0])];
    std::copy_n(table_->features.begin() + number[0] * table_->num_features, table_->num_features,
                batch.features.begin() + row * table_->num_features);
  }

 private:
  std::shared_ptr<const Table> table_;
};

}  // namespace

Batch BatchMaker::make(int64_t first_sequence, int64_t num_sequences) const {
  Batch batch = make_batch(first_sequence, num_sequences, sizes_.length);
  batch.source_length = sizes_.source_length;
  batch.source.resize(static_cast<size_t>(num_sequences * sizes_.source_length));
  if (sizes_.source_length > 0) batch.source_counts.resize(static_cast<size_t>(num_sequences));
  batch.num_features = sizes_.num_features;
  batch.features.resize(static_cast<size_t>(num_sequences * sizes_.num_features));
  return batch;
}

std::shared_ptr<const BatchMaker> next_token_batches(int64_t length, bool across_documents) {
  return std::make_shared<NextToken>(length, across_documents);
}

std::shared_ptr<const BatchMaker> case_batches(std::shared_ptr<const Table> table) {
  return std::make_shared<Cases>(std::move(table));
}

}  // namespace switchyard
