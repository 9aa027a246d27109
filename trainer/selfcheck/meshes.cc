#include "trainer/selfcheck/meshes.h"

#include <algorithm>
#include <functional>
#include <set>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/base/errors.h"
#include "core/config/fields.h"
#include "core/config/mesh_shape.h"
#include "core/config/validate.h"

namespace switchyard::trainer {
namespace {

// Appends all meshes that choose the degrees from `field` on which `mesh` leaves open. What breaks
// a rule already is not gone on with, since further degrees cannot mend it.
void append_choices(const config::Model& model, int ranks, int field, config::Mesh mesh,
                    std::vector<config::Mesh>& meshes) {
  const config::Descriptor& degrees = *config::Mesh::descriptor();
  if (!config::mesh_problems(mesh, model, ranks).empty()) return;
  if (field == degrees.field_count()) return meshes.push_back(std::move(mesh));
  const config::FieldDescriptor& degree_field = *degrees.field(field);
  const bool follows = degree_field.number() == config::Mesh::kDataFieldNumber;
  if (follows || mesh.GetReflection()->HasField(mesh, &degree_field))
    return append_choices(model, ranks, field + 1, mesh, meshes);
  for (int degree = 1; degree <= ranks; ++degree) {
    if (ranks % degree != 0) continue;
    mesh.GetReflection()->SetInt32(&mesh, &degree_field, degree);
    append_choices(model, ranks, field + 1, mesh, meshes);
  }
}

// All that the rules of meshes allow, the data degree as it follows from the others: a new degree
// of the schema is in it.
std::vector<config::Mesh> all_meshes(const config::Model& model, int ranks,
                                     const config::Mesh& fixed) {
  std::vector<config::Mesh> meshes;
  append_choices(model, ranks, 0, fixed, meshes);
  for (config::Mesh& mesh : meshes)
    mesh.set_data(config::mesh_shape(mesh, model, ranks).size(Axis::kData));
  return meshes;
}

}  // namespace

std::vector<config::Mesh> legal_meshes(const config::RunConfig& config, int ranks,
                                       const config::Mesh& fixed) {
  std::vector<config::Mesh> legal;
  config::RunConfig on_mesh = config;
  for (const config::Mesh& mesh : all_meshes(config.model(), ranks, fixed)) {
    *on_mesh.mutable_mesh() = mesh;
    if (config::problems(on_mesh, ranks).empty()) legal.push_back(mesh);
  }
  if (!legal.empty()) return legal;
  *on_mesh.mutable_mesh() = fixed;
  throw ConfigError(fmt::format("no mesh of {} rank(s) goes with this config:\n{}", ranks,
                                fmt::join(config::problems(on_mesh, ranks), "\n")));
}

std::vector<config::Mesh> covering(std::vector<config::Mesh> meshes, const config::Model& model,
                                   int ranks) {
  const auto pairs = [&](const config::Mesh& mesh) {
    std::set<std::pair<Axis, Axis>> all;
    const AxisSet axes = axes_of(mesh, model, ranks);
    for (const Axis a : kAllAxes) {
      for (const Axis b : kAllAxes)
        if (axes.contains(a) && axes.contains(b)) all.emplace(a, b);
    }
    return all;
  };
  std::ranges::stable_sort(meshes, std::greater(),
                           [&](const config::Mesh& mesh) { return pairs(mesh).size(); });
  std::set<std::pair<Axis, Axis>> covered;
  std::erase_if(meshes, [&](const config::Mesh& mesh) {
    const size_t before = covered.size();
    covered.merge(pairs(mesh));
    return covered.size() == before;
  });
  return meshes;
}

std::string name_of(const config::Mesh& mesh) {
  std::vector<std::string> degrees;
  const config::Descriptor& fields = *config::Mesh::descriptor();
  for (int i = 0; i < fields.field_count(); ++i) {
    const int degree = mesh.GetReflection()->GetInt32(mesh, fields.field(i));
    if (degree > 1) degrees.push_back(fmt::format("{} {}", fields.field(i)->name(), degree));
  }
  return degrees.empty() ? "one rank" : fmt::format("{}", fmt::join(degrees, ", "));
}

AxisSet axes_of(const config::Mesh& mesh, const config::Model& model, int ranks) {
  const MeshShape shape = config::mesh_shape(mesh, model, ranks);
  AxisSet axes;
  for (const Axis axis : kAllAxes) {
    const bool is_of_experts =
        axis == Axis::kExpert || axis == Axis::kExpertTensor || axis == Axis::kExpertData;
    if (shape.size(axis) > 1 && (model.has_moe() || !is_of_experts)) axes.insert(axis);
  }
  return axes;
}

}  // namespace switchyard::trainer
