#include "parallel/gradients.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <optional>

#include <ATen/Dispatch.h>

#include "core/base/errors.h"
#include "core/tensor/aten.h"
#include "core/tensor/profiled_part.h"

namespace switchyard::parallel {
namespace {

// Reductions of an axis under way at once: as many as hide their latency, since each needs room for
// what arrives.
constexpr size_t kUnderWay = 4;

// Sums of squares of blocks of values, each by eight lanes.
std::vector<double> squares_of_blocks(const at::Tensor& values) {
  const int64_t blocks = (values.numel() + kSquaresBlock - 1) / kSquaresBlock;
  std::vector<double> sums(blocks);
  AT_DISPATCH_FLOATING_TYPES(values.scalar_type(), "squares_of_blocks", [&] {
    const auto* value = values.const_data_ptr<scalar_t>();
    at::parallel_for(0, blocks, 1, [&](int64_t begin, int64_t end) {
      for (int64_t block = begin; block < end; ++block) {
        const int64_t last = std::min(values.numel(), (block + 1) * kSquaresBlock);
        double lanes[8] = {};
        for (int64_t i = block * kSquaresBlock; i < last; ++i) {
          const auto x = static_cast<double>(value[i]);
          lanes[i % 8] += x * x;
        }
        for (const double lane : lanes) sums[block] += lane;
      }
    });
  });
  return sums;
}

at::Tensor gradient_in(const ParameterGroup& group, const Slice& range) {
  return group.grad.narrow(0, range.begin, range.size());
}

// What the owners of scattered buckets summed, brought to all of them: [owner][block].
std::vector<double> squares_of_shares(const ParameterGroup& group, const Mesh& mesh) {
  std::vector<double> own;
  for (const Slice& bucket : group.deal.buckets) {
    if (!group.deal.is_scattered(bucket)) continue;
    const auto squares = squares_of_blocks(gradient_in(group, group.deal.owned(bucket)));
    own.insert(own.end(), squares.begin(), squares.end());
  }
  std::vector<double> all(own.size() * group.deal.place.size);
  if (!own.empty())
    mesh.along(group.deal.axis)
        .all_gather(own.data(), all.data(), static_cast<int64_t>(own.size() * sizeof(double)),
                    "squares of shares");
  return all;
}

// **Collective** over the axis that the group is dealt over. The sum of all blocks in order.
double sum_of_squares(const ParameterGroup& group, const Mesh& mesh) {
  const std::vector<double> shares = squares_of_shares(group, mesh);
  const size_t stride = shares.size() / group.deal.place.size;
  double total = 0;
  size_t done = 0;  // blocks of each owner
  for (const Slice& bucket : group.deal.buckets) {
    if (!group.deal.is_scattered(bucket)) {
      for (const double sum : squares_of_blocks(gradient_in(group, bucket))) total += sum;
      continue;
    }
    const size_t blocks = group.deal.owned(bucket).size() / kSquaresBlock;
    for (int owner = 0; owner < group.deal.place.size; ++owner)
      for (size_t i = 0; i < blocks; ++i) total += shares[owner * stride + done + i];
    done += blocks;
  }
  return total;
}

// Once a bucket is scattered, each rank goes on with its share over the axes that follow.
std::unique_ptr<Work> start_sum(ParameterGroup& group, const Slice& bucket, Axis axis,
                                Communicator& ranks) {
  const Deal& deal = group.deal;
  const bool is_scattered = deal.is_scattered(bucket);
  const at::Tensor summed =
      gradient_in(group, is_scattered && axis > deal.axis ? deal.owned(bucket) : bucket);
  const DType dtype = summed.scalar_type() == at::kDouble ? DType::kFloat64 : DType::kFloat32;
  const char* what = group.cut.contains(Axis::kExpert) ? "expert gradients" : "gradients";
  if (is_scattered && axis == deal.axis) {
    const at::Tensor share = gradient_in(group, deal.owned(bucket));
    return ranks.start_reduce_scatter(summed.const_data_ptr(), share.mutable_data_ptr(),
                                      share.numel(), dtype, ReduceOp::kSum, what);
  }
  return ranks.start_all_reduce(summed.mutable_data_ptr(), summed.numel(), dtype, ReduceOp::kSum,
                                what);
}

using Works = std::deque<std::unique_ptr<Work>>;

void wait_down_to(size_t count, Works& works) {
  for (; works.size() > count; works.pop_front()) works.front()->wait();
}

// The axis that its gradient is summed over first, if any.
std::optional<Axis> first_axis(const ParameterGroup& group) {
  const auto first =
      std::ranges::find_if(kAllAxes, [&](Axis axis) { return group.summed.contains(axis); });
  return first == kAllAxes.end() ? std::nullopt : std::optional(*first);
}

bool is_complete(const ParameterGroup& group, const Slice& range) {
  const auto& all = group.parameters;
  auto next = std::prev(std::ranges::upper_bound(all, range.begin, {}, &Parameter::offset));
  for (; next != all.end() && (*next)->offset < range.end; ++next)
    if (!(*next)->progress.is_complete) return false;
  return true;
}

// The ranks along the axis that hold what this one does. A table that the model reads at both ends
// is held by the first stage and the last alone.
Communicator& holders(const ParameterGroup& group, Axis axis, const Mesh& mesh) {
  if (axis != Axis::kPipeline) return mesh.along(axis);
  const Pipeline& pipeline = mesh.pipeline();
  const bool at_ends = group.parameters.front()->layout[axis].size < pipeline.place().size;
  return at_ends ? pipeline.ends() : pipeline.stages();
}

// Of stages that hold the same parameters the first counts them.
bool counts_here(const ParameterGroup& group) {
  return !group.summed.contains(Axis::kPipeline) ||
         group.parameters.front()->layout[Axis::kPipeline].index == 0;
}

}  // namespace

double sum_of_squares(const at::Tensor& values) {
  double total = 0;
  for (const double sum : squares_of_blocks(values)) total += sum;
  return total;
}

GradientReduction::GradientReduction(ParameterTable& table, const Mesh& mesh)
    : groups_(table.trained_groups()), mesh_(&mesh) {
  for (const ParameterGroup& group : groups_) begun_[&group].resize(group.deal.buckets.size());
  table.on_gradient_ready([this](const Parameter& parameter) { advance(parameter); });
}

void GradientReduction::advance(const Parameter& complete) {
  const ProfiledPart part("sy::reduction and wait");
  ParameterGroup& group = groups_[complete.group - groups_.data()];
  const auto& buckets = group.deal.buckets;
  const Slice range = complete.range();
  auto next = std::prev(std::ranges::upper_bound(buckets, range.begin, {}, &Slice::begin));
  for (; next != buckets.end() && next->begin < range.end; ++next)
    if (is_complete(group, *next)) begin(group, next - buckets.begin());
}

void GradientReduction::begin(ParameterGroup& group, size_t bucket) {
  const std::optional<Axis> axis = first_axis(group);
  if (!axis || begun_[&group][bucket]) return;
  begun_[&group][bucket] = true;
  Works& works = under_way_[*axis];
  wait_down_to(kUnderWay - 1, works);
  works.push_back(start_sum(group, group.deal.buckets[bucket], *axis, mesh_->along(*axis)));
}

void GradientReduction::finish() {
  const ProfiledPart part("sy::reduction and wait");
  for (ParameterGroup& group : groups_) {
    for (const Parameter* parameter : group.parameters) {
      SY_CHECK(parameter->progress.is_complete,
               "the gradient of {} would be reduced before all of it is there", parameter->name);
    }
  }
  for (ParameterGroup& group : groups_) {
    for (size_t i = 0; i < group.deal.buckets.size(); ++i) begin(group, i);
    begun_[&group].assign(group.deal.buckets.size(), false);
  }
  for (auto& [axis, works] : under_way_) wait_down_to(0, works);
  for (const Axis axis : kAllAxes) {
    Works works;
    for (ParameterGroup& group : groups_) {
      if (!group.summed.contains(axis) || first_axis(group) == axis) continue;
      for (const Slice& bucket : group.deal.buckets) {
        wait_down_to(kUnderWay - 1, works);
        works.push_back(start_sum(group, bucket, axis, holders(group, axis, *mesh_)));
      }
    }
    wait_down_to(0, works);
  }
}

double gradient_norm(std::span<const ParameterGroup> groups, const Mesh& mesh) {
  std::map<AxisSet, double> squares;
  for (const ParameterGroup& group : groups)
    if (counts_here(group)) squares[group.cut] += sum_of_squares(group, mesh);
  double total = 0;
  for (auto [cut, sum] : squares) {
    for (const Axis axis : kAllAxes) {
      if (cut.contains(axis))
        sum = mesh.along(axis).all_reduce(sum, ReduceOp::kSum, "gradient norm");
    }
    total += sum;
  }
  total = mesh.along(Axis::kPipeline).all_reduce(total, ReduceOp::kSum, "gradient norm");
  return std::sqrt(total);
}

}  // namespace switchyard::parallel
