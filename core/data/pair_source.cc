#include "core/data/pair_source.h"

#include <algorithm>

#include "core/base/errors.h"
#include "core/base/fingerprint.h"

namespace switchyard {
namespace {

// The text at the beginning of a field of a record, its end token included.
std::vector<int32_t> text_of(std::span<const int32_t> field, int32_t end) {
  const auto last = std::ranges::find(field, end);
  return {field.begin(), last == field.end() ? last : last + 1};
}

class PairRows final : public BatchMaker {
 public:
  PairRows(const PairLengths& lengths, int32_t end)
      : BatchMaker({lengths.record(), lengths.target, lengths.source}), end_(end) {}

  void fill(Batch& batch, int64_t row, const TokenSource& source, int64_t first,
            int64_t) const override {
    std::vector<int32_t> record(static_cast<size_t>(sample_tokens()));
    source.read(first, record);
    const std::span<const int32_t> fields(record);
    const auto width = static_cast<size_t>(batch.source_length);
    fill_pair(batch, row, text_of(fields.first(width), end_), text_of(fields.subspan(width), end_),
              end_);
  }

 private:
  int32_t end_;
};

}  // namespace

PairSource::PairSource(std::shared_ptr<const TokenFile> file, const PairLengths& lengths,
                       int32_t end)
    : file_(std::move(file)), lengths_(lengths), end_(end) {
  if (file_->num_documents() == 0 || file_->num_documents() % 2 != 0)
    throw DataError(
        fmt::format("{}: {} documents, expected pairs of a source and a target text; see "
                    "`scripts/corpus --pairs`",
                    file_->name(), file_->num_documents()));
}

void PairSource::read_document(int64_t document, std::span<int32_t> tokens) const {
  const int64_t begin = file_->document_begin(document);
  const int64_t size =
      std::min(file_->document_begin(document + 1) - begin, static_cast<int64_t>(tokens.size()));
  file_->read(begin, tokens.first(static_cast<size_t>(size)));
  std::fill(tokens.begin() + size, tokens.end(), end_);
}

void PairSource::read(int64_t first, std::span<int32_t> tokens) const {
  const int64_t record = lengths_.record(), size = static_cast<int64_t>(tokens.size());
  SY_CHECK(first % record == 0 && size % record == 0 && first + size <= num_tokens(),
           "tokens {} to {} are not whole records of {}", first, first + size, record);
  for (int64_t at = 0; at < size; at += record) {
    const int64_t pair = (first + at) / record;
    const auto fields = tokens.subspan(static_cast<size_t>(at), static_cast<size_t>(record));
    const auto width = static_cast<size_t>(lengths_.source);
    read_document(2 * pair, fields.first(width));
    read_document(2 * pair + 1, fields.subspan(width));
  }
}

void PairSource::segments(int64_t first, std::span<int32_t> numbers) const {
  for (size_t i = 0; i < numbers.size(); ++i)
    numbers[i] = static_cast<int32_t>((first % lengths_.record() + static_cast<int64_t>(i)) /
                                      lengths_.record());
}

uint64_t PairSource::fingerprint() const {
  return Fingerprint()
      .add(file_->fingerprint())
      .add(static_cast<uint64_t>(lengths_.source))
      .add(static_cast<uint64_t>(lengths_.target))
      .value();
}

std::shared_ptr<const BatchMaker> pair_batches(const PairLengths& lengths, int32_t end) {
  return std::make_shared<PairRows>(lengths, end);
}

}  // namespace switchyard
