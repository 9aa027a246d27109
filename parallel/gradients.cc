#include "parallel/gradients.h"

#include <cmath>

#include <ATen/Dispatch.h>

#include "core/tensor/aten.h"

namespace switchyard::parallel {
namespace {

constexpr int64_t kBlock = 1 << 16;  // elements summed in one go; fixes the order of the sum

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

Communicator& replicas_of(const ParameterGroup& group, const Mesh& mesh) {
  return group.replicas == Replicas::kData ? mesh.data() : mesh.expert_data();
}

void reduce_gradients(std::vector<ParameterGroup>& groups, const Mesh& mesh) {
  for (ParameterGroup& group : groups) {
    const DType dtype = group.grad.scalar_type() == at::kDouble ? DType::kFloat64 : DType::kFloat32;
    const char* what = group.replicas == Replicas::kData ? "gradients" : "expert gradients";
    replicas_of(group, mesh)
        .all_reduce(group.grad.mutable_data_ptr(), group.grad.numel(), dtype, ReduceOp::kSum, what);
  }
}

double gradient_norm(const std::vector<ParameterGroup>& groups, const Mesh& mesh) {
  double replicated = 0, sharded = 0;
  for (const ParameterGroup& group : groups) {
    (group.replicas == Replicas::kData ? replicated : sharded) += sum_of_squares(group.grad);
  }
  return std::sqrt(replicated + mesh.expert().all_reduce(sharded, ReduceOp::kSum, "gradient norm"));
}

}  // namespace switchyard::parallel
