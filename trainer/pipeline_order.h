#pragma once
// In which order a stage of a pipeline does the work of a step, as data: one forward pass, one
// backward pass ("1F1B"; Narayanan et al. 2021, section 2.2). A stage begins with as many forward
// passes as there are stages behind it, so that these have work, then turns to backward after each
// forward pass: it never keeps the activations of more micro-batches than there are stages from it
// on.

#include <cstdint>
#include <vector>

#include "core/base/layout.h"

namespace switchyard::trainer {

struct Action {
  enum class Kind : uint8_t {
    kReceiveRows,  // from the stage before
    kForward,
    kSendRows,         // to the stage behind
    kReceiveGradient,  // of the rows that were sent
    kBackward,
    kSendGradient,  // of the rows that were received
  };
  Kind kind;
  int64_t micro_batch;
  bool operator==(const Action&) const = default;
};

// Every micro-batch once forward and once backward, each time in order. A send only starts: it is
// over when the neighbour has received, and the next one the same way waits for that. With one
// stage forward and backward take turns.
std::vector<Action> pipeline_order(const Place& stage, int64_t micro_batches);

}  // namespace switchyard::trainer
