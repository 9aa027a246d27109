#pragma once
// Text from a model, token by token, with a key/value cache.

#include <cstdint>
#include <functional>
#include <string>

#include "core/data/tokenizer.h"

namespace at {
class Tensor;
}

namespace switchyard::trainer {

class ModelInstance;

struct SamplingOptions {
  int64_t max_tokens = 128;
  double temperature = 0.8;  // 0: always the likeliest token
  double top_p = 0.95;       // sample from the smallest set of tokens with this much probability
  uint64_t seed = 1;
};

// **Collective** over the mesh: all ranks get the same text, which rank 0 draws. Returns the
// continuation without the prompt (an encoder-decoder's answer to it); stops at the end of the
// document. `on_text` (may be empty) sees each piece as it becomes known.
std::string generate(ModelInstance& instance, const Tokenizer& tokenizer, const std::string& prompt,
                     const SamplingOptions& options,
                     const std::function<void(const std::string&)>& on_text);

// Index of one draw from softmax(logits / temperature) cut to top_p; ties go to the lowest id.
// `uniform` in [0, 1).
int64_t sample_token(const at::Tensor& logits_V, const SamplingOptions& options, double uniform);

}  // namespace switchyard::trainer
