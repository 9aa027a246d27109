#include "core/data/evaluation.h"

#include <algorithm>

#include "core/base/errors.h"

namespace switchyard {
namespace {

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace

EvalLoader::EvalLoader(std::shared_ptr<const TokenSource> source, const EvalOptions& options)
    : source_(std::move(source)), options_(options) {
  const auto& [length, max_sequences, batch_sequences, rank, num_ranks, maker] = options;
  SY_CHECK(length > 0 && max_sequences >= 0 && batch_sequences > 0 && rank >= 0 && rank < num_ranks,
           "{} x {} tokens, at most {}, rank {} of {}", batch_sequences, length, max_sequences,
           rank, num_ranks);
  if (!options_.maker) options_.maker = next_token_batches(length);
  if (source_->num_sampled() < 1)
    throw DataError(fmt::format("{}: {} tokens, expected at least 2 to evaluate on",
                                source_->name(), source_->num_tokens()));
  num_sequences_ = divide_up(source_->num_sampled(), length);
  if (max_sequences > 0) num_sequences_ = std::min(num_sequences_, max_sequences);
}

int64_t EvalLoader::num_batches() const {
  return divide_up(num_sequences_, options_.batch_sequences * options_.num_ranks);
}

// Batch i of all ranks together is one run of rows, so only the last batches hold padding.
Batch EvalLoader::batch(int64_t i) const {
  const int64_t rows = options_.batch_sequences;
  Batch batch = options_.maker->make((i * options_.num_ranks + options_.rank) * rows, rows);
  const int64_t real = std::min(rows, num_sequences_ - batch.first_sequence);
  for (int64_t row = 0; row < real; ++row) {
    const int64_t sequence = batch.first_sequence + row;
    options_.maker->fill(batch, row, *source_, sequence * options_.length, sequence);
  }
  return batch;
}

}  // namespace switchyard
