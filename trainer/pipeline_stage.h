#pragma once
// The micro-batches of a step on their way through the layers of this rank, and back: carries out
// what trainer/pipeline_order.h lists.

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include <ATen/core/Tensor.h>

#include "parallel/activity.h"
#include "parallel/pipeline.h"
#include "trainer/pipeline_order.h"

namespace switchyard::trainer {

class PipelineStage {
 public:
  struct Passes {
    // Uninitialised memory for the rows of a micro-batch that enter the layers.
    std::function<at::Tensor()> empty_rows;
    // The rows that leave the layers, or in the last stage the loss. Called in order.
    std::function<at::Tensor(int64_t micro_batch, const at::Tensor& x_TD)> forward;
  };
  // activity: this rank's, which is told what it is at.
  PipelineStage(const parallel::Pipeline& pipeline, parallel::Activity& activity, Passes passes)
      : pipeline_(pipeline), activity_(activity), passes_(std::move(passes)) {}

  // **Collective** over the mesh. Forward and backward of all micro-batches.
  void run(int64_t micro_batches);

 private:
  // What is kept of a micro-batch between forward and backward.
  struct InFlight {
    at::Tensor entered_TD;   // undefined in the first stage
    at::Tensor left;         // rows, or the loss
    at::Tensor gradient_TD;  // of the rows that left; undefined in the last stage
  };
  // What travels to a neighbour, until that has it.
  struct Parcel {
    at::Tensor content;
    std::unique_ptr<parallel::Work> work;  // null: nothing is under way

    void send(const at::Tensor& next, parallel::Link& link, const char* what);
    void arrive();
  };
  void carry_out(const Action& action);

  const parallel::Pipeline& pipeline_;
  parallel::Activity& activity_;
  Passes passes_;
  std::vector<InFlight> in_flight_;  // by micro-batch; empty where nothing is kept
  Parcel rows_, gradient_;           // the last one sent
};

}  // namespace switchyard::trainer
