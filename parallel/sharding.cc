#include "parallel/sharding.h"

#include <utility>
#include <vector>

#include "core/tensor/aten.h"
#include "core/tensor/device_ops.h"

namespace switchyard::parallel {
namespace {

constexpr const char* kWhat = "weights";

at::Tensor part_of(const at::Tensor& flat, const Slice& range) {
  return flat.narrow(0, range.begin, range.size());
}

// Equal shares: each rank sends its own, and receives all in their places.
void gather_elements(ParameterGroup& group, Communicator& owners) {
  std::vector<std::pair<at::Tensor, std::unique_ptr<Work>>> gathers;
  auto next = group.owned.begin();
  for (const Slice& bucket : group.deal.buckets) {
    const at::Tensor own = (next++)->values.to(group.value.scalar_type(), /*non_blocking=*/false,
                                               /*copy=*/true);
    gathers.emplace_back(own,
                         owners.start_all_gather(own.const_data_ptr(),
                                                 part_of(group.value, bucket).mutable_data_ptr(),
                                                 static_cast<int64_t>(own.nbytes()), kWhat));
  }
  for (const auto& [own, gather] : gathers) gather->wait();
}

// Shares of several sizes, some of them empty.
void gather_parameters(ParameterGroup& group, Communicator& owners) {
  for (const Stretch& stretch : group.owned)
    part_of(group.value, stretch.range).copy_(stretch.values);
  for (const Slice& bucket : group.deal.buckets) {
    for (int owner = 0; owner < owners.size(); ++owner) {
      const at::Tensor share = part_of(group.value, group.deal.share(bucket, owner));
      if (share.numel() == 0) continue;
      owners.broadcast(share.mutable_data_ptr(), static_cast<int64_t>(share.nbytes()), owner,
                       kWhat);
    }
  }
}

}  // namespace

void choose_dealing(const config::Optimizer& optimizer, ParameterTable& table) {
  if (!optimizer.sharded()) return;
  for (Parameter& parameter : table.parameters()) {
    const bool is_factored =
        optimizer.kind() == config::ADAFACTOR ||
        (optimizer.kind() == config::ADAM_FACTORED_EXPERTS && parameter.experts());
    parameter.dealing = is_factored ? Dealing::kParameters : Dealing::kElements;
  }
}

void refresh_values(std::span<ParameterGroup> groups, const Mesh& mesh) {
  for (ParameterGroup& group : groups) {
    switch (group.deal.dealing) {
      case Dealing::kWhole:
        if (!group.value.is_alias_of(group.master)) group.value.copy_(group.master);
        break;
      case Dealing::kParameters:
        gather_parameters(group, mesh.along(group.deal.axis));
        break;
      case Dealing::kElements:
        gather_elements(group, mesh.along(group.deal.axis));
        break;
    }
  }
}

at::Tensor gather_owned(const Parameter& parameter, std::span<const Stretch> stretches,
                        const Slice& range, const Mesh& mesh) {
  const Deal& deal = parameter.group->deal;
  const at::Tensor whole = at::zeros({range.size()}, exact_type(parameter.value.scalar_type()));
  for (const Stretch& stretch : stretches_within(stretches, range))
    part_of(whole, stretch.range).copy_(stretch.values);
  if (deal.dealing == Dealing::kWhole) return whole;
  // Sums of bits, which are zero everywhere but at the owner: those of numbers lose a zero's sign.
  const bool is_double = whole.scalar_type() == at::kDouble;
  mesh.along(deal.axis).all_reduce(whole.mutable_data_ptr(), whole.numel(),
                                   is_double ? DType::kInt64 : DType::kInt32, ReduceOp::kSum,
                                   "dealt numbers");
  return whole;
}

}  // namespace switchyard::parallel
