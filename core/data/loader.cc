#include "core/data/loader.h"

#include <algorithm>

#include "core/base/errors.h"
#include "core/base/threads.h"

namespace switchyard {
namespace {

void check_options(const Blend& blend, const LoaderOptions& options) {
  SY_CHECK(!options.maker || options.maker->sample_tokens() == blend.length(),
           "rows of {} tokens, samples of {}", options.maker->sample_tokens(), blend.length());
  const int64_t rank = options.rank, num_ranks = options.num_ranks;
  SY_CHECK(num_ranks > 0 && rank >= 0 && rank < num_ranks && options.prefetch > 0,
           "rank {} of {}, {} steps ahead", rank, num_ranks, options.prefetch);
  const int64_t global = options.global_sequences, accumulation = options.accumulation;
  if (accumulation < 1 || global < 1 || global % (accumulation * num_ranks) != 0)
    throw ConfigError(
        fmt::format("global batch of {} sequences must be a positive multiple of accumulation ({}) "
                    "x data ranks ({})",
                    global, accumulation, num_ranks));
  const int64_t largest = std::max(global, options.largest_step);
  if (blend.num_samples() < largest)
    throw DataError(
        fmt::format("the data hold {} samples of {} tokens, less than one global batch of {}; use "
                    "more text, shorter sequences or a smaller batch",
                    blend.num_samples(), blend.length(), largest));
}

}  // namespace

BatchLoader::BatchLoader(Blend blend, const LoaderOptions& options, Cursor cursor)
    : blend_(std::move(blend)),
      options_(options),
      cursor_(std::move(cursor)),
      steps_(static_cast<size_t>(std::max<int64_t>(1, options.prefetch))) {
  check_options(blend_, options_);
  if (!options_.maker) options_.maker = next_token_batches(blend_.length());
  blend_.check(cursor_);
  reader_ =
      start_thread("the thread that reads data", [this, from = cursor_] { read_ahead(from); });
}

BatchLoader::~BatchLoader() { steps_.close(); }

// Every rank draws all G samples, which is cheap, and reads only its own.
BatchLoader::Step BatchLoader::read_step(int64_t number, Cursor cursor) const {
  const int64_t micro = options_.global_sequences / options_.accumulation;
  const int64_t share = micro / options_.num_ranks, rank = options_.rank;
  const int64_t micro_batches = options_.micro_batches
                                    ? options_.micro_batches(number, cursor.sequence)
                                    : options_.accumulation;
  SY_CHECK(micro_batches > 0, "step {} has {} micro-batches", number, micro_batches);
  Step step;
  for (int64_t m = 0; m < micro_batches; ++m) {
    const int64_t first = cursor.sequence;
    Batch batch = options_.maker->make(first + rank * share, share);
    for (int64_t i = 0; i < micro; ++i) {
      const Draw draw = blend_.next(cursor);
      const int64_t row = i - rank * share;
      if (row >= 0 && row < share)
        options_.maker->fill(batch, row, blend_.source(draw.source), draw.sample * blend_.length(),
                             first + i);
    }
    step.batches.push_back(std::move(batch));
  }
  step.after = std::move(cursor);
  return step;
}

// Runs on its own thread until the queue is closed or a step fails; the failure goes into the queue
// like a step, so that the steps before it are still given out.
void BatchLoader::read_ahead(Cursor cursor) {
  int64_t number = options_.first_step;
  for (bool open = true; open; ++number) {
    Step step;
    try {
      step = read_step(number, cursor);
      cursor = step.after;
    } catch (...) {
      step.error = std::current_exception();
    }
    const bool failed = step.error != nullptr;
    open = steps_.push(std::move(step)) && !failed;
  }
}

std::vector<Batch> BatchLoader::next_step() {
  if (error_) std::rethrow_exception(error_);
  auto step = steps_.pop();
  SY_CHECK(step.has_value(), "the reader has stopped");
  if (step->error) {
    error_ = step->error;
    std::rethrow_exception(error_);
  }
  cursor_ = std::move(step->after);
  return std::move(step->batches);
}

}  // namespace switchyard
