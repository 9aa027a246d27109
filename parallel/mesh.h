#pragma once
// Which ranks this rank works with. A Mesh is a value: made once from the world and the shape that
// the config resolves to, printed, passed down.

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/base/layout.h"
#include "parallel/communicator.h"
#include "parallel/pipeline.h"

namespace switchyard::parallel {

class Mesh {
 public:
  // **Collective** over `world`, which the mesh borrows and which must outlive it. Throws
  // CheckError unless the shape is one of as many ranks.
  Mesh(Communicator& world, const MeshShape& shape);

  // All ranks of the job, in host memory: for what ranks agree on and tell each other. Data never
  // travels here, so that the two never wait for each other's turn.
  Communicator& control() const { return *control_; }

  // The ranks that this rank shares the axis with, for data.
  Communicator& along(Axis axis) const { return *groups_[static_cast<size_t>(axis)]; }
  // Ranks that see different tokens.
  Communicator& data() const { return along(Axis::kData); }
  // Ranks that see the same tokens; what a layer's matrices make together is summed over it.
  Communicator& tensor() const { return along(Axis::kTensor); }
  // Ranks that together hold all experts, or their part of each; tokens are exchanged over it.
  Communicator& expert() const { return along(Axis::kExpert); }
  // Ranks that together hold each of their experts; what these make of a row is summed over it.
  Communicator& expert_tensor() const { return along(Axis::kExpertTensor); }
  // Ranks that hold the same experts; expert gradients are summed over it.
  Communicator& expert_data() const { return along(Axis::kExpertData); }

  // The ranks along the pipeline axis as neighbours.
  const Pipeline& pipeline() const { return *pipeline_; }

  const MeshShape& shape() const { return shape_; }
  // This rank's place on each axis.
  Layout layout() const { return shape_.layout(control_->rank()); }

  // By this rank to others of the axis, so far.
  int64_t bytes_sent(Axis axis) const;

  // A few lines: degrees above 1, and which ranks are on each host and in each group.
  // host_of_rank: of all ranks.
  std::string describe(const std::vector<std::string>& host_of_rank) const;

 private:
  Communicator* control_;
  MeshShape shape_;
  std::array<std::unique_ptr<Communicator>, kAllAxes.size()> groups_;  // by axis
  std::optional<Pipeline> pipeline_;
};

}  // namespace switchyard::parallel
