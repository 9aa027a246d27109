#include "trainer/selfcheck/meshes.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/base/errors.h"
#include "core/config/fields.h"
#include "core/config/mesh_shape.h"
#include "core/config/validate.h"

namespace switchyard::trainer {
namespace {

// All ways to give each degree a divisor of `ranks`, whether they go together or not: a new degree
// of the schema is in it.
std::vector<config::Mesh> all_meshes(int ranks) {
  std::vector<config::Mesh> meshes(1);
  const config::Descriptor& degrees = *config::Mesh::descriptor();
  for (int i = 0; i < degrees.field_count(); ++i) {
    std::vector<config::Mesh> longer;
    for (config::Mesh mesh : meshes) {
      for (int degree = 1; degree <= ranks; ++degree) {
        if (ranks % degree != 0) continue;
        mesh.GetReflection()->SetInt32(&mesh, degrees.field(i), degree);
        longer.push_back(mesh);
      }
    }
    meshes = std::move(longer);
  }
  return meshes;
}

}  // namespace

std::vector<config::Mesh> legal_meshes(const config::RunConfig& config, int ranks) {
  std::vector<config::Mesh> legal;
  config::RunConfig on_mesh = config;
  for (const config::Mesh& mesh : all_meshes(ranks)) {
    if (!config::mesh_problems(mesh, config.model(), ranks).empty()) continue;  // quick
    *on_mesh.mutable_mesh() = mesh;
    if (config::problems(on_mesh, ranks).empty()) legal.push_back(mesh);
  }
  if (!legal.empty()) return legal;
  on_mesh.mutable_mesh()->Clear();
  throw ConfigError(fmt::format("no mesh of {} rank(s) goes with this config:\n{}", ranks,
                                fmt::join(config::problems(on_mesh, ranks), "\n")));
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
