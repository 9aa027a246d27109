#include "models/moe/rules/token_groups.h"

#include <algorithm>
#include <vector>

#include "core/tensor/aten.h"

namespace switchyard::models {
namespace {

int64_t round_up(int64_t value, int64_t unit) { return (value + unit - 1) / unit * unit; }

}  // namespace

int64_t num_routing_groups(int64_t tokens, int64_t max_group_tokens, int64_t multiple) {
  int64_t groups = round_up(std::max(tokens / max_group_tokens, multiple), multiple);
  while (tokens % groups != 0) groups += multiple;
  return groups;
}

StepContext in_groups(const at::Tensor& x_TD, const StepContext& context, const config::Moe& moe,
                      const parallel::Mesh& mesh) {
  const int64_t ranks = mesh.data().size(), tokens = context.rows.count(x_TD);
  const bool by_experts = moe.capacity().group_rule() == config::FLAXFORMER;
  // A multiple of the ranks either way, as the ranks of an expert group share the experts evenly.
  const int64_t multiple =
      by_experts ? int64_t{moe.num_experts()} * mesh.expert_data().size() : ranks;
  const int64_t padded = round_up(tokens, multiple / ranks), of_all_ranks = padded * ranks;
  StepContext grouped = context;
  if (tokens == 0) return grouped;
  grouped.group_tokens =
      of_all_ranks / num_routing_groups(of_all_ranks, moe.capacity().max_group_tokens(), multiple);
  if (padded == tokens) return grouped;
  const bool has_padding = context.is_real_T.defined();
  grouped.is_real_T =
      with_padding(has_padding ? context.is_real_T : at::ones({tokens}, at::kBool), padded);
  if (context.token_ids_T.defined())
    grouped.token_ids_T = with_padding(context.token_ids_T, padded);
  return grouped;
}

at::Tensor with_padding(const at::Tensor& rows, int64_t count) {
  if (rows.size(0) == count) return rows;
  std::vector<int64_t> shape = rows.sizes().vec();
  shape[0] = count - shape[0];
  return at::concat({rows, at::zeros(shape, rows.options())});
}

}  // namespace switchyard::models
