#pragma once
// A model in training without a run around it: weights, optimizer, data, and how far it is. A run,
// a benchmark and the tests of layouts drive it alike; only the run has a folder, a log, signals.

#include <memory>
#include <string>
#include <vector>

#include "core/config/run_config.pb.h"
#include "core/data/loader.h"
#include "optim/optimizer.h"
#include "trainer/checkpoint/training_state.h"
#include "trainer/data_sources.h"
#include "trainer/model_instance.h"
#include "trainer/training_step.h"

namespace switchyard::trainer {

class Training {
 public:
  // **Collective** over `world`, which must outlive it. The config is resolved, the data are its
  // own. Parameters are allocated but not filled, and the state is that of a new run.
  Training(const config::RunConfig& config, RunData data, parallel::Communicator& world);

  // Call once, when weights, optimizer and state are those to go on from: begins to read batches.
  void begin();

  // **Collective.** The next step up to its reduced gradients. The arguments are StepInput's.
  StepOutcome compute(double loss_factor = 1, std::vector<models::SlotRecord>* slots = nullptr);
  // **Collective.** Ends the step. One that is not finite leaves the weights as they are. Returns
  // lines of text about the experts that were revived.
  std::vector<std::string> update(const StepOutcome& outcome);

  // The config in force in the step under way, which is that of the last compute().
  const config::RunConfig& now() const { return now_; }
  int64_t tokens_of_step() const;
  // "sequences 8 to 15; a.bin at tokens 512, 0; b.bin at token 96": the batch of the step under
  // way. Requires: it is computed and not updated.
  std::string place_of_batch() const;
  // Tokens of all steps to come, up to train.steps.
  int64_t tokens_left() const;

  RunData data;
  Blend blend;  // of data.train
  ModelInstance instance;
  std::unique_ptr<optim::Optimizer> optimizer;
  TrainingState state;

 private:
  std::vector<Batch> next_batches();

  config::RunConfig config_, now_;
  std::unique_ptr<BatchLoader> loader_;
};

}  // namespace switchyard::trainer
