// Embeddings that are also the output matrix, where they start as N(0, 1).

#include <cmath>
#include <string>

#include <gtest/gtest.h>

#include "core/config/reader.h"
#include "core/tensor/aten.h"
#include "models/model.h"
#include "parallel/single.h"

namespace switchyard::models {
namespace {

constexpr int64_t kRows = 2, kLength = 8, kVocab = 256;

struct Case {
  const char *name, *architecture;
  int width;
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.name << c.width; }

struct TiedEmbeddings : ::testing::TestWithParam<Case> {
  TiedEmbeddings() {
    table.allocate(at::kFloat);
    table.initialize(3);
    context.group_tokens = kLength;
    context.count.in_step = context.count.in_micro_batch = kRows * kLength;
    context.source_count.in_step = context.source_count.in_micro_batch = kRows * kLength;
    context.sums = &sums;
    at::manual_seed(2);
    stream = at::randint(kVocab, {kRows, kLength + 1}, at::kLong);
    source = at::randint(kVocab, {kRows, kLength}, at::kLong);
  }
  static config::RunConfig config() {
    return config::load_config_text(
        fmt::format(
            "model {{ num_layers: 1 d_model: {} vocab_size: {} initializer: "
            "TRUNCATED_NORMAL tie_embeddings: true {} }} data {{ synthetic {{}} }} train {{ "
            "steps: 1 global_batch: 1 }}",
            GetParam().width, kVocab, GetParam().architecture),
        "tied");
  }
  double loss() {
    const at::NoGradGuard no_grad;
    TokenBatch batch{stream.slice(1, 0, kLength).contiguous(), stream.slice(1, 1).contiguous(),
                     at::zeros({kRows, kLength}, at::kInt)};
    batch.source_BM = source;
    batch.source_counts_B = at::full({kRows}, kLength, at::kLong);
    context.training = true;
    return model.loss(batch, context, 1.0 / (kRows * kLength), false).item<double>();
  }

  std::unique_ptr<parallel::Communicator> world = parallel::make_single();
  parallel::Mesh mesh{*world, MeshShape()};
  ParameterTable table;
  Model model{Scope(table), config().model(), mesh};
  StepContext context;
  parallel::NamedSums sums;
  at::Tensor stream, source;
};

// The word that was read is most of the row that its own embedding is multiplied with, so its logit
// is up to sqrt(D), as in T5; all other words' logits are of unit size, whatever the width.
TEST_P(TiedEmbeddings, GiveLogitsOfUnitSizeInGeneration) {
  const at::NoGradGuard no_grad;
  const TextModel& text = model.text();
  TextState state;
  if (text.has_encoder()) state = text.encode(source, context);
  for (int64_t t = 0; t < 4; ++t) {
    const at::Tensor word_B1 = stream.slice(1, t, t + 1);
    const at::Tensor logits_BV = text.next_logits(word_B1, context, state);
    const double own = logits_BV.gather(1, word_B1).max().item<double>();
    EXPECT_LT(own, 1.5 * std::sqrt(GetParam().width));
    const at::Tensor is_own = at::arange(kVocab, at::kLong)
                                  .unsqueeze(0)
                                  .eq(stream.slice(1, 0, t + 1).unsqueeze(2))
                                  .any(1);
    const double size = logits_BV.masked_select(is_own.logical_not()).std().item<double>();
    EXPECT_GT(size, 0.7);
    EXPECT_LT(size, 1.4);
  }
}

TEST_P(TiedEmbeddings, StartTrainingBetweenAnEvenGuessAndTheWordThatWasRead) {
  const double even = std::log(static_cast<double>(kVocab));
  const double first = loss();
  EXPECT_GT(first, even);
  EXPECT_LT(first, even + 1 + std::sqrt(GetParam().width));
  // The layer that predicts the word after the next mixes what it reads.
  if (config().model().has_mtp()) {
    EXPECT_NEAR(sums.at("mtp").mean(), even, 1);
  }
}

constexpr const char* kDecoder = "d_ff: 64 attention { num_heads: 4 } mtp { weight: 1 }";
constexpr const char* kLstm = "architecture: LSTM_LM";
constexpr const char* kSampled = "architecture: LSTM_LM lstm { sampled_softmax: 255 }";
constexpr const char* kEncoderDecoder =
    "architecture: ENCODER_DECODER d_ff: 64 attention { num_heads: 4 }";

INSTANTIATE_TEST_SUITE_P(
    Models, TiedEmbeddings,
    ::testing::Values(Case{"Decoder", kDecoder, 64}, Case{"Decoder", kDecoder, 512},
                      Case{"Lstm", kLstm, 64}, Case{"Lstm", kLstm, 512},
                      Case{"SampledLstm", kSampled, 64}, Case{"SampledLstm", kSampled, 512},
                      Case{"EncoderDecoder", kEncoderDecoder, 64},
                      Case{"EncoderDecoder", kEncoderDecoder, 512}),
    [](const auto& test) { return fmt::format("{}{}", test.param.name, test.param.width); });

}  // namespace
}  // namespace switchyard::models
