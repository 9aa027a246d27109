#include "core/data/batch_maker.h"

#include <algorithm>
#include <array>

namespace switchyard {
namespace {

class NextToken final : public BatchMaker {
 public:
  NextToken(int64_t length, bool across_documents)
      : length_(length), across_documents_(across_documents) {}

  int64_t sample_tokens() const override { return length_; }
  Batch make(int64_t first_sequence, int64_t num_sequences) const override {
    return make_batch(first_sequence, num_sequences, length_);
  }
  void fill(Batch& batch, int64_t row, const TokenSource& source, int64_t first,
            int64_t) const override {
    fill_row(batch, row, source, first);
    if (across_documents_) std::fill_n(batch.documents.begin() + row * length_, length_, 0);
  }

 private:
  int64_t length_;
  bool across_documents_;
};

class Cases final : public BatchMaker {
 public:
  explicit Cases(std::shared_ptr<const Table> table) : table_(std::move(table)) {}

  int64_t sample_tokens() const override { return 1; }
  Batch make(int64_t first_sequence, int64_t num_sequences) const override {
    Batch batch = make_batch(first_sequence, num_sequences, 1);
    batch.num_features = table_->num_features;
    batch.features.resize(static_cast<size_t>(num_sequences * table_->num_features), 0);
    return batch;
  }
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

std::shared_ptr<const BatchMaker> next_token_batches(int64_t length, bool across_documents) {
  return std::make_shared<NextToken>(length, across_documents);
}

std::shared_ptr<const BatchMaker> case_batches(std::shared_ptr<const Table> table) {
  return std::make_shared<Cases>(std::move(table));
}

}  // namespace switchyard
