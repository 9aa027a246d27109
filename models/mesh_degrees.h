#pragma once
// The degrees of the mesh that a config asks for.

#include "core/config/run_config.pb.h"
#include "parallel/mesh.h"

namespace switchyard::models {

inline parallel::MeshDegrees mesh_degrees(const config::Mesh& mesh) {
  parallel::MeshDegrees degrees;
  if (mesh.has_data()) degrees.data = mesh.data();
  if (mesh.has_expert()) degrees.expert = mesh.expert();
  return degrees;
}

}  // namespace switchyard::models
