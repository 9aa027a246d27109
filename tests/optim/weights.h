#pragma once
// Parameters of every kind that an optimizer tells apart, with gradients that are a function of
// (step, name, global element), so that they are alike on every mesh.

#include <cmath>
#include <numeric>
#include <string>

#include "core/tensor/aten.h"
#include "core/tensor/parameter.h"
#include "optim/optimizer.h"
#include "parallel/mesh.h"

namespace switchyard::optim {

inline constexpr int kNumExperts = 4;

struct Weights {
  explicit Weights(parallel::Communicator& world, at::ScalarType type = at::kDouble)
      : mesh(world,
             MeshShape({.data = world.size(), .expert = std::gcd(world.size(), kNumExperts)})),
        matrix(Scope(table).matrix("matrix", {4, 9}, {Init::kNormal, 0.5})),
        narrow(Scope(table).matrix("narrow", {2, 9}, {Init::kNormal, 1e-5})),
        norm(Scope(table).vector("norm", {5}, Use::kScale, {Init::kConstant, 1})),
        experts(Scope(table, mesh.layout())
                    .of_experts(kNumExperts)
                    .matrix("experts", {3, 6}, {Init::kNormal, 0.3})) {
    table.allocate(type);
    table.initialize(11);
  }

  static double gradient_of(int step, const std::string& name, int64_t i) {
    const double phase = static_cast<double>(name.size()) + 0.7 * static_cast<double>(i);
    return std::sin(3.0 * step + phase) * (1 + static_cast<double>(i % 3));
  }

  void set_gradients(int step) {
    for (Parameter& parameter : table.parameters()) {
      const at::Tensor flat = parameter.grad.view(-1);
      const int64_t first = parameter.experts() ? parameter.experts()->begin * 18 : 0;
      for (int64_t i = 0; i < flat.numel(); ++i) {
        flat[i] = gradient_of(step, parameter.name, first + i);
      }
    }
  }

  parallel::Mesh mesh;
  ParameterTable table;
  Parameter& matrix;
  Parameter& narrow;
  Parameter& norm;
  Parameter& experts;
};

}  // namespace switchyard::optim
