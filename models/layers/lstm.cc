#include "models/layers/lstm.h"

#include <vector>

#include <ATen/OpMathType.h>

#include "core/tensor/aten.h"
#include "core/tensor/profiled_part.h"

namespace switchyard::models {
namespace {

// 1 where a position goes on with the document of the one before it, [B, S] of `type`; the first
// position goes on with whatever state there is.
at::Tensor goes_on(const at::Tensor& documents_BS, at::ScalarType type) {
  at::Tensor same_BS = at::ones(documents_BS.sizes(), documents_BS.options().dtype(type));
  const int64_t length = documents_BS.size(1);
  if (length > 1) {
    same_BS.slice(1, 1).copy_(documents_BS.slice(1, 1).eq(documents_BS.slice(1, 0, length - 1)));
  }
  return same_BS;
}

std::vector<Part> gates(const LstmSizes& sizes, const Init& init) {
  std::vector<Part> parts;
  for (const char* name : {"input", "forget", "cell", "output"})
    parts.push_back({name, sizes.hidden, init});
  return parts;
}

}  // namespace

Lstm::Lstm(const Scope& scope, const LstmSizes& sizes, double init_std)
    : sizes_(sizes),
      input_(scope, "input", gates(sizes, {Init::kNormal, init_std}), sizes.input, "bias"),
      recurrent_(scope, "recurrent", gates(sizes, {Init::kNormal, init_std}), sizes.output()) {
  if (sizes.projection > 0) {
    projection_.emplace(scope, "projection", sizes.projection, sizes.hidden,
                        Init{Init::kNormal, init_std});
  }
}

LstmState Lstm::step(const at::Tensor& input_B4U, const LstmState& state) const {
  const at::Tensor gates =
      (input_B4U + recurrent_.forward(state.hidden_BO)).to(state.cell_BU.scalar_type());
  const auto parts = gates.chunk(4, 1);
  const at::Tensor cell_BU =
      (parts[1] + 1).sigmoid() * state.cell_BU + parts[0].sigmoid() * parts[2].tanh();
  at::Tensor hidden = (parts[3].sigmoid() * cell_BU.tanh()).to(input_B4U.scalar_type());
  if (projection_) hidden = projection_->forward(hidden);
  return {hidden, cell_BU};
}

at::Tensor Lstm::forward(const at::Tensor& x_TD, int64_t sequences, const at::Tensor& documents_BS,
                         LstmState* state) const {
  const ProfiledPart part("sy::lstm");
  const at::ScalarType type = x_TD.scalar_type();
  const int64_t length = x_TD.size(0) / sequences;
  const at::Tensor input_BS4U = input_.forward(x_TD).view({sequences, length, 4 * sizes_.hidden});
  LstmState now = state ? *state : LstmState{};
  if (!now.hidden_BO.defined()) {
    now = {at::zeros({sequences, sizes_.output()}, x_TD.options()),
           at::zeros({sequences, sizes_.hidden}, x_TD.options().dtype(at::toOpMathType(type)))};
  }
  const at::Tensor keep_BS =
      documents_BS.defined() ? goes_on(documents_BS, at::toOpMathType(type)) : at::Tensor();
  std::vector<at::Tensor> outputs;
  outputs.reserve(length);
  for (int64_t t = 0; t < length; ++t) {
    if (keep_BS.defined() && t > 0) {
      const at::Tensor keep = keep_BS.slice(1, t, t + 1);
      now = {now.hidden_BO * keep.to(type), now.cell_BU * keep};
    }
    now = step(input_BS4U.select(1, t), now);
    outputs.push_back(now.hidden_BO);
  }
  if (state) *state = now;
  return at::stack(outputs, 1).view({x_TD.size(0), sizes_.output()});
}

}  // namespace switchyard::models
