#pragma once
// Which axis of parallelism explains that some meshes compute something else than one rank does.

#include <span>
#include <string>
#include <vector>

#include "core/base/layout.h"

namespace switchyard::trainer {

struct MeshVerdict {
  AxisSet axes;  // that more than one rank stands along
  bool misses = false;
};

// One fault. Any one of several axes could be it where no mesh tells them apart; or it takes all of
// them together, as none of them alone does it.
struct Cause {
  std::vector<Axis> axes;
  bool is_joint = false;

  // "expert"; "data or expert_data"; "data with tensor".
  std::string text() const;
};

// An axis that is in every mesh that misses and in none that does not is the cause. If there is no
// such axis there are several causes: the meshes that miss are taken one by one, the simplest
// first, and in each an axis that some mesh without a miss has is innocent.
std::vector<Cause> causes_of(std::span<const MeshVerdict> meshes);

}  // namespace switchyard::trainer
