#include "parallel/gradients.h"

#include <cmath>
#include <map>

#include <ATen/Dispatch.h>

#include "core/base/errors.h"
#include "core/tensor/aten.h"

namespace switchyard::parallel {
namespace {

constexpr int64_t kBlock = 1 << 16;  // elements summed in one go; fixes the order of the sum

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
  const int64_t blocks = (values.numel() + kBlock - 1) / kBlock;
  std::vector<double> partial(blocks);
  AT_DISPATCH_FLOATING_TYPES(values.scalar_type(), "sum_of_squares", [&] {
    const auto* value = values.const_data_ptr<scalar_t>();
    at::parallel_for(0, blocks, 1, [&](int64_t begin, int64_t end) {
      for (int64_t block = begin; block < end; ++block) {
        const int64_t last = std::min(values.numel(), (block + 1) * kBlock);
        double lanes[8] = {};
        for (int64_t i = block * kBlock; i < last; ++i) {
          const auto x = static_cast<double>(value[i]);
          lanes[i % 8] += x * x;
        }
        for (const double lane : lanes) partial[block] += lane;
      }
    });
  });
  double total = 0;
  for (const double sum : partial) total += sum;
  return total;
}

void reduce_gradients(std::span<ParameterGroup> groups, const Mesh& mesh) {
  for (const ParameterGroup& group : groups) {
    for (const Parameter* parameter : group.parameters) {
      SY_CHECK(parameter->progress.is_complete,
               "the gradient of {} would be reduced before all of it is there", parameter->name);
    }
  }
  for (const Axis axis : kAllAxes) {
    std::vector<std::unique_ptr<Work>> sums;
    for (ParameterGroup& group : groups) {
      if (!group.summed.contains(axis)) continue;
      const DType dtype =
          group.grad.scalar_type() == at::kDouble ? DType::kFloat64 : DType::kFloat32;
      const char* what = group.cut.contains(Axis::kExpert) ? "expert gradients" : "gradients";
      sums.push_back(holders(group, axis, mesh)
                         .start_all_reduce(group.grad.mutable_data_ptr(), group.grad.numel(), dtype,
                                           ReduceOp::kSum, what));
    }
    for (const auto& sum : sums) sum->wait();
  }
}

double gradient_norm(std::span<const ParameterGroup> groups, const Mesh& mesh) {
  std::map<AxisSet, double> squares;
  for (const ParameterGroup& group : groups)
    if (counts_here(group)) squares[group.cut] += sum_of_squares(group.grad);
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
