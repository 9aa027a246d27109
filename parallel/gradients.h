#pragma once
// Gradient reduction: every group's flat gradient is summed over the ranks that hold the same
// parameters, bucket by bucket, while backward computes the next. A rank's loss is already its
// share of the whole step's (divided by the global token count), so sums need no factor, for
// experts as for everything else.

#include <deque>
#include <map>
#include <memory>
#include <span>

#include "core/tensor/parameter.h"
#include "parallel/mesh.h"

namespace switchyard::parallel {

// Sums in place, over the axes of each group one after the other. Every rank gets the same sums; of
// a scattered bucket (Deal::is_scattered) it gets those of its share, and the rest is unspecified.
class GradientReduction {
 public:
  // Listens to the table, which is allocated. Both must outlive it, and it what the table hears.
  GradientReduction(ParameterTable& table, const Mesh& mesh);
  GradientReduction(const GradientReduction&) = delete;
  GradientReduction& operator=(const GradientReduction&) = delete;

  // **Collective** over the mesh. Sums what was not begun in backward, and waits for all. Throws
  // CheckError for a gradient that is not complete (ParameterTable::end_forward).
  void finish();

 private:
  // **Collective** over the first axis of the parameter's group. Begins the buckets that became
  // complete with it.
  void advance(const Parameter& complete);
  void begin(ParameterGroup& group, size_t bucket);

  std::span<ParameterGroup> groups_;  // that train
  const Mesh* mesh_;
  std::map<const ParameterGroup*, std::vector<bool>> begun_;     // by bucket, in this step
  std::map<Axis, std::deque<std::unique_ptr<Work>>> under_way_;  // in the order of their starts
};

// In float64, in an order that does not depend on the number of threads. `values` is contiguous.
double sum_of_squares(const at::Tensor& values);

// **Collective** over the axes that parameters are cut over, those that groups are dealt over, and
// the stages. L2 norm of the whole model's reduced gradient: each piece enters once, however many
// ranks hold it. The same bits whether groups are dealt or not.
double gradient_norm(std::span<const ParameterGroup> groups, const Mesh& mesh);

}  // namespace switchyard::parallel
