// How modules register their parameters. See core/tensor/parameter.h.

#include <utility>

#include "core/base/errors.h"
#include "core/tensor/parameter.h"

namespace switchyard {

Scope::Scope(ParameterTable& table, const Layout& layout) : table_(&table) {
  pattern_.layout = layout;
}

Scope Scope::operator/(const std::string& name) const {
  Scope inner = *this;
  inner.pattern_.name = pattern_.name.empty() ? name : pattern_.name + "." + name;
  return inner;
}

Scope Scope::of_experts(int64_t num_experts) const {
  Scope same = *this;
  same.num_experts_ = num_experts;
  same.pattern_.cuts = {{Axis::kExpert, 0}};
  same.pattern_.summed = {Axis::kExpertData};
  return same;
}

Scope Scope::cut(Axis axis, int dim) const {
  Scope same = *this;
  if (layout()[axis].size == 1) return same;
  same.pattern_.cuts.push_back({axis, num_experts_ > 0 ? dim + 1 : dim});
  same.pattern_.summed.erase(axis);
  return same;
}

Parameter& Scope::add(const std::string& name, const std::vector<Part>& parts,
                      const std::vector<int64_t>& rest, Use use) const {
  Parameter parameter = pattern_;
  parameter.name = (*this / name).pattern_.name;
  parameter.use = use;
  parameter.decay = use == Use::kMatrix || use == Use::kTable;
  parameter.trains = use != Use::kSelectionBias;
  if (num_experts_ > 0) {
    parameter.shape = {num_experts_};
    parameter.part_dim = 1;
  }
  int64_t size = 0;
  for (const Part& part : parts) size += part.size;
  parameter.shape.push_back(size);
  parameter.shape.insert(parameter.shape.end(), rest.begin(), rest.end());
  parameter.parts = parts;
  return table_->add(std::move(parameter));
}

}  // namespace switchyard
