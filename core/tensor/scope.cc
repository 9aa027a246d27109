// How modules register their parameters. See core/tensor/parameter.h.

#include <functional>
#include <numeric>
#include <utility>

#include "core/tensor/parameter.h"

namespace switchyard {
namespace {

int64_t total_size(const std::vector<Part>& parts) {
  return std::transform_reduce(parts.begin(), parts.end(), int64_t{0}, std::plus<>(),
                               [](const Part& part) { return part.size; });
}

}  // namespace

Scope::Scope(ParameterTable& table, const Layout& layout) : table_(&table) {
  pattern_.layout = layout;
}

Scope Scope::operator/(const std::string& name) const {
  Scope inner = *this;
  inner.pattern_.name = pattern_.name.empty() ? name : pattern_.name + "." + name;
  return inner;
}

Scope Scope::as(Role role) const {
  Scope same = *this;
  same.pattern_.role = role;
  return same;
}

Scope Scope::of_router(int64_t router) const {
  Scope same = *this;
  same.pattern_.router = router;
  return same;
}

Scope Scope::of_target(bool is) const {
  Scope same = *this;
  same.pattern_.of_target = is;
  return same;
}

Scope Scope::training_only() const {
  Scope same = *this;
  same.pattern_.training_only = true;
  return same;
}

Scope Scope::of_experts(int64_t num_experts) const {
  Scope same = *this;
  same.num_experts_ = num_experts;
  same.pattern_.cuts = {{Axis::kExpert, 0}};
  same.pattern_.summed = {Axis::kExpertData};
  return same;
}

Parameter& Scope::add(const std::string& name, std::vector<int64_t> shape, std::vector<Part> parts,
                      Use use) const {
  Parameter parameter = pattern_;
  parameter.name = (*this / name).pattern_.name;
  parameter.use = use;
  parameter.parts = std::move(parts);
  if (num_experts_ > 0) {
    shape.insert(shape.begin(), num_experts_);
    parameter.part_dim = 1;
  }
  parameter.shape = std::move(shape);
  return table_->add(std::move(parameter));
}

Parameter& Scope::matrix(const std::string& name, const std::vector<Part>& rows,
                         int64_t columns) const {
  return add(name, {total_size(rows), columns}, rows, Use::kMatrix);
}

Parameter& Scope::matrix(const std::string& name, std::vector<int64_t> shape,
                         const Init& init) const {
  const int64_t rows = shape[0];
  return add(name, std::move(shape), {{"", rows, init}}, Use::kMatrix);
}

Parameter& Scope::table(const std::string& name, std::vector<int64_t> shape,
                        const Init& init) const {
  const int64_t rows = shape[0];
  return add(name, std::move(shape), {{"", rows, init}}, Use::kTable);
}

Parameter& Scope::vector(const std::string& name, std::vector<int64_t> shape, Use use,
                         const Init& init) const {
  const int64_t size = shape[0];
  Parameter& vector = add(name, std::move(shape), {{"", size, init}}, use);
  vector.decay = false;
  vector.trains = use != Use::kSelectionBias;
  return vector;
}

Parameter& Scope::vector(const std::string& name, const std::vector<Part>& parts, Use use) const {
  Parameter& vector = add(name, {total_size(parts)}, parts, use);
  vector.decay = false;
  return vector;
}

}  // namespace switchyard
