#include "models/pass/context.h"

#include "core/base/errors.h"
#include "core/tensor/aten.h"
#include "core/tensor/flags.h"

namespace switchyard::models {

StepContext with_token_ids(StepContext context, const at::Tensor& tokens_BS) {
  context.token_ids_T = tokens_BS.flatten();
  return context;
}

at::Tensor first_are_real(int64_t real, int64_t tokens) {
  return real < tokens ? at::arange(tokens, at::kLong).lt(real) : at::Tensor();
}

std::vector<uint8_t> real_tokens(const StepContext& context, int64_t tokens) {
  if (!context.is_real_T.defined()) return {};
  SY_CHECK(context.is_real_T.numel() == tokens, "a padding mask of {} for {} tokens",
           context.is_real_T.numel(), tokens);
  return flags_of(context.is_real_T);
}

}  // namespace switchyard::models
