#include "core/data/tokenize.h"

#include <algorithm>
#include <deque>
#include <future>
#include <thread>

#include "core/base/errors.h"
#include "core/base/fingerprint.h"
#include "core/base/random.h"
#include "core/base/threads.h"
#include "core/data/bounded_queue.h"
#include "core/data/token_file_writer.h"

namespace switchyard {
namespace {

using Documents = std::vector<std::string>;
struct Document {
  std::vector<int32_t> tokens;
  bool is_held_out;
};
using Tokens = std::vector<Document>;

constexpr size_t kBatchBytes = 1 << 18;

bool is_held_out(const std::string& document, double share) {
  return share > 0 &&
         Random(Fingerprint().add(document).value(), Stream::kShuffle).uniform(0) < share;
}

Tokens encode(const Tokenizer& tokenizer, double holdout, const Documents& documents) {
  Tokens tokens;
  tokens.reserve(documents.size());
  for (const std::string& document : documents) {
    tokens.push_back({tokenizer.encode(document), is_held_out(document, holdout)});
    tokens.back().tokens.push_back(tokenizer.end_of_document());
  }
  return tokens;
}

// Encodes batches on threads and gives them back in the order they came.
class Encoder {
 public:
  Encoder(const Tokenizer& tokenizer, double holdout, int threads)
      : tokenizer_(tokenizer),
        holdout_(holdout),
        limit_(2 * static_cast<size_t>(threads)),
        jobs_(limit_) {
    for (int i = 0; i < threads; ++i)
      threads_.push_back(
          start_thread(fmt::format("thread {} of the {} that encode", i + 1, threads), [this] {
            while (auto job = jobs_.pop()) (*job)();
          }));
  }
  ~Encoder() { jobs_.close(); }

  bool full() const { return results_.size() == limit_; }
  bool empty() const { return results_.empty(); }

  // Requires !full(), so it does not block.
  void submit(Documents documents) {
    std::packaged_task<Tokens()> job(
        [this, batch = std::move(documents)] { return encode(tokenizer_, holdout_, batch); });
    results_.push_back(job.get_future());
    jobs_.push(std::move(job));
  }

  // Waits for the oldest batch; rethrows what its encoding threw.
  Tokens take() {
    auto result = std::move(results_.front());
    results_.pop_front();
    return result.get();
  }

 private:
  const Tokenizer& tokenizer_;
  double holdout_;
  size_t limit_;  // batches in flight
  BoundedQueue<std::packaged_task<Tokens()>> jobs_;
  std::deque<std::future<Tokens>> results_;
  std::vector<std::jthread> threads_;  // last: they end before the queue goes
};

class Job {
 public:
  Job(const TokenizeOptions& options, const Tokenizer& tokenizer, const TokenizeProgress& progress)
      : options_(options),
        tokenizer_(tokenizer),
        progress_(progress),
        encoder_(tokenizer, options.holdout, std::max(1, options.threads)),
        writer_(options.out, tokenizer.vocab_size()) {
    if (options.holdout > 0)
      held_out_.emplace(held_out_prefix(options.out), tokenizer.vocab_size());
    for (const std::string& path : options.inputs) total_bytes_ += file_size(path);
  }

  TokenizeResult run() {
    for (const std::string& path : options_.inputs) add_file(path);
    while (!encoder_.empty()) write_oldest();
    if (result_.text.documents == 0)
      throw DataError(fmt::format("no document in {} input files of {} bytes; expected text",
                                  options_.inputs.size(), total_bytes_));
    check_sides();
    writer_.finish(&tokenizer_);
    if (held_out_) held_out_->finish(&tokenizer_);
    return result_;
  }

 private:
  void add_file(const std::string& path) {
    TextReader reader(path, {.format = options_.format.value_or(guess_text_format(path)),
                             .max_document_bytes = options_.max_document_bytes});
    for (Documents batch = read_batch(reader); !batch.empty(); batch = read_batch(reader)) {
      if (encoder_.full()) write_oldest();
      encoder_.submit(std::move(batch));
      if (progress_) progress_(bytes_before_ + reader.position(), total_bytes_);
    }
    bytes_before_ += file_size(path);
    result_.text += reader.counts();
  }

  static Documents read_batch(TextReader& reader) {
    Documents batch;
    std::string document;
    for (size_t bytes = 0; bytes < kBatchBytes && reader.next(document); bytes += document.size())
      batch.push_back(document);
    return batch;
  }

  void write_oldest() {
    for (const auto& [tokens, is_held_out] : encoder_.take()) {
      const auto count = static_cast<int64_t>(tokens.size());
      (is_held_out ? *held_out_ : writer_).add_document(tokens);
      result_.tokens += count;
      if (!is_held_out) continue;
      ++result_.held_out_documents;
      result_.held_out_tokens += count;
    }
  }

  void check_sides() const {
    const int64_t held_out = result_.held_out_documents, all = result_.text.documents;
    if (!held_out_ || (held_out > 0 && held_out < all)) return;
    throw DataError(
        fmt::format("a holdout of {} leaves {} of {} documents in {} and {} in {}; choose another "
                    "share, or text with more documents",
                    options_.holdout, all - held_out, all, options_.out, held_out,
                    held_out_prefix(options_.out)));
  }

  const TokenizeOptions& options_;
  const Tokenizer& tokenizer_;
  const TokenizeProgress& progress_;
  Encoder encoder_;
  TokenFileWriter writer_;
  std::optional<TokenFileWriter> held_out_;
  TokenizeResult result_;
  int64_t total_bytes_ = 0;
  int64_t bytes_before_ = 0;  // of the files before the present one
};

}  // namespace

std::string held_out_prefix(const std::string& out) { return out + "_holdout"; }

TokenizeResult tokenize(const TokenizeOptions& options, const Tokenizer& tokenizer,
                        const TokenizeProgress& progress) {
  return Job(options, tokenizer, progress).run();
}

}  // namespace switchyard
