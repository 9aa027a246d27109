#include "trainer/generate.h"

#include <algorithm>
#include <span>

#include <fmt/format.h>

#include "core/base/errors.h"
#include "core/base/random.h"
#include "core/tensor/aten.h"
#include "trainer/machine/available_memory.h"
#include "trainer/model_instance.h"

namespace switchyard::trainer {
namespace {

at::Tensor as_row(std::span<const int32_t> tokens) {
  return at::tensor(std::vector<int64_t>(tokens.begin(), tokens.end()), at::kLong).unsqueeze(0);
}

models::StepContext context_of(int64_t length) {
  models::StepContext context;
  context.generating = true;
  context.group_tokens = length;
  return context;
}

// The longest part of `text` that ends at a character boundary: a token may stop inside a UTF-8
// sequence.
size_t whole_characters(const std::string& text) {
  for (size_t back = 1; back <= 3 && back <= text.size(); ++back) {
    const auto byte = static_cast<unsigned char>(text[text.size() - back]);
    if ((byte & 0xC0) == 0x80) continue;  // inside a sequence: look further back for its first byte
    const size_t length = byte >= 0xF0 ? 4 : byte >= 0xE0 ? 3 : byte >= 0xC0 ? 2 : 1;
    return length > back ? text.size() - back : text.size();
  }
  return text.size();
}

// A model may know more ids than its tokenizer: sentinels, a vocabulary rounded up. They show as
// <id>.
std::string text_of(const std::vector<int32_t>& tokens, const Tokenizer& tokenizer) {
  std::string text;
  for (auto from = tokens.begin(); from != tokens.end();) {
    const auto to =
        std::find_if(from, tokens.end(), [&](int32_t id) { return id >= tokenizer.vocab_size(); });
    if (from != to) text += tokenizer.decode(std::vector<int32_t>(from, to));
    from = to;
    if (to != tokens.end()) text += fmt::format("<{}>", *from++);
  }
  return text;
}

// The last token that is generated is not read again.
void check_length(int64_t prompt, int64_t max_tokens, const models::TextModel& model) {
  const int64_t longest = model.longest_text(), later = std::max<int64_t>(0, max_tokens - 1);
  if (prompt > longest || later > longest - prompt)
    throw ConfigError(fmt::format(
        "the prompt has {} tokens, the beginning of the document included, and {} more are asked "
        "for, but the model has learned {} positions (model.attention.max_positions); shorten the "
        "prompt or lower --max-tokens",
        prompt, max_tokens, longest));
}

// An encoder compares each token with each other one, at 16 bytes and more.
void check_memory(int64_t tokens) {
  const auto needed = static_cast<double>(tokens) * static_cast<double>(tokens) * 16;
  const auto available = static_cast<double>(look_at_memory().available_bytes);
  if (available > 0 && needed > available)  // 0: nothing could be read
    throw ConfigError(fmt::format(
        "the prompt has {} tokens, for which the encoder needs more than {:.1f} GB, and "
        "{:.1f} GB are available; shorten the prompt",
        tokens, needed / 1e9, available / 1e9));
}

// **Collective.** The logits after the tokens, which are read some at a time: memory grows with the
// length of the text, not with its square.
at::Tensor read(const models::TextModel& model, std::span<const int32_t> tokens,
                models::TextState& state) {
  constexpr size_t kBlock = 512;
  at::Tensor logits;
  while (!tokens.empty()) {
    const auto block = tokens.first(std::min(kBlock, tokens.size()));
    logits =
        model.next_logits(as_row(block), context_of(static_cast<int64_t>(block.size())), state);
    tokens = tokens.subspan(block.size());
  }
  return logits;
}

// **Collective.** Logits may differ in their last bits from rank to rank; a rank that drew another
// token would end another time, and leave the others waiting in the next exchange.
int32_t agreed_token(int64_t drawn, parallel::Communicator& world) {
  auto token = static_cast<int32_t>(drawn);
  world.broadcast(&token, sizeof token, 0, "generated token");
  return token;
}

}  // namespace

int64_t sample_token(const at::Tensor& logits_V, const SamplingOptions& options, double uniform) {
  const auto [sorted, ids] =
      logits_V.to(at::kDouble).sort(/*stable=*/true, /*dim=*/0, /*descending=*/true);
  if (options.temperature <= 0) return ids[0].item<int64_t>();
  const at::Tensor probability = (sorted / options.temperature).softmax(0);
  const at::Tensor cumulative = probability.cumsum(0).contiguous();
  const double* sum = cumulative.const_data_ptr<double>();
  const int64_t size = cumulative.numel();
  const int64_t kept =
      std::min<int64_t>(size, std::lower_bound(sum, sum + size, options.top_p) - sum + 1);
  const int64_t drawn = std::upper_bound(sum, sum + kept, uniform * sum[kept - 1]) - sum;
  return ids[std::min(drawn, kept - 1)].item<int64_t>();
}

std::string generate(ModelInstance& instance, const Tokenizer& tokenizer, const std::string& prompt,
                     const SamplingOptions& options,
                     const std::function<void(const std::string&)>& on_text) {
  const at::NoGradGuard no_grad;
  const models::TextModel& model = instance.model.text();
  const Random random(options.seed, Stream::kSample);
  std::vector<int32_t> input = tokenizer.encode(prompt);
  models::TextState state;
  if (model.has_encoder()) {
    input.push_back(tokenizer.end_of_document());
    check_memory(static_cast<int64_t>(input.size()));
    state = model.encode(as_row(input), context_of(static_cast<int64_t>(input.size())));
    input.clear();
  }
  // An end-of-document token before the text is what a document begins with in training.
  input.insert(input.begin(), tokenizer.end_of_document());
  check_length(static_cast<int64_t>(input.size()), options.max_tokens, model);
  std::vector<int32_t> generated;
  size_t shown = 0;
  std::string text;
  for (int64_t i = 0; i < options.max_tokens; ++i) {
    const at::Tensor logits = read(model, input, state);
    const int32_t next =
        agreed_token(sample_token(logits[0], options, random.uniform(i)), instance.mesh.control());
    if (next == tokenizer.end_of_document()) break;
    generated.push_back(next);
    input = {next};
    text = text_of(generated, tokenizer);
    const size_t whole = whole_characters(text);
    if (on_text && whole > shown) on_text(text.substr(shown, whole - shown));
    shown = std::max(shown, whole);
  }
  return text;
}

}  // namespace switchyard::trainer
