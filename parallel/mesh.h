#pragma once
// Which rank does what. A Mesh is a value: made once from the world and the degrees, checked,
// printed, passed down.
//
// The same ranks are seen in two ways ("folding"). Dense parameters are replicated over the data
// axis, which is all ranks today. Expert parameters are cut over the expert axis and replicated
// over the rest, the expert-data axis:
//     world = data = expert * expert_data,    rank = expert_data_index * expert + expert_index
// so that the members of an expert group are neighbours, where the network is fastest.

#include <memory>
#include <optional>
#include <string>

#include "core/tensor/layout.h"
#include "parallel/communicator.h"

namespace switchyard::parallel {

// Degrees as asked for; unset ones are chosen.
struct MeshDegrees {
  std::optional<int> data = {};
  std::optional<int> expert = {};
};

class Mesh {
 public:
  // **Collective** over `world`, which the mesh borrows and which must outlive it. num_experts is 0
  // for a dense model. An unset expert degree becomes gcd(ranks, num_experts). Throws ConfigError
  // when the degrees do not fit.
  Mesh(Communicator& world, const MeshDegrees& degrees, int num_experts);

  Communicator& world() const { return *world_; }
  // Ranks that see different tokens; dense gradients are summed over it.
  Communicator& data() const { return *world_; }
  // Ranks that together hold all experts; tokens are exchanged over it.
  Communicator& expert() const { return *expert_; }
  // Ranks that hold the same experts; expert gradients are summed over it.
  Communicator& expert_data() const { return *expert_data_; }

  // This rank's place on each axis.
  Layout layout() const;
  // The ranks that this rank shares the axis with.
  Communicator& along(Axis axis) const;

  // The degrees for a world of `ranks`, without making groups: for `inspect`. Throws ConfigError.
  struct Shape {
    int data, expert, expert_data;
  };
  static Shape resolve(int ranks, const MeshDegrees& degrees, int num_experts);

  // A few lines: degrees, and which ranks form each group.
  std::string describe() const;

 private:
  Communicator* world_;
  std::unique_ptr<Communicator> expert_;
  std::unique_ptr<Communicator> expert_data_;
};

}  // namespace switchyard::parallel
