#pragma once
// Everything beside tensors that a resumed run needs.

#include <cstdint>
#include <string>
#include <vector>

#include "core/data/sampler.h"
#include "trainer/log/loss_window.h"

namespace switchyard::trainer {

// Alike on all ranks when it is saved.
struct TrainingState {
  int64_t step = 0;    // steps done
  int64_t tokens = 0;  // tokens trained on
  int64_t optimizer_steps = 0;
  int32_t skipped_in_a_row = 0;
  int64_t skipped_steps = 0;
  Cursor data;
  LossWindow losses;  // those of the steps done
  uint64_t data_fingerprint = 0, tokenizer_fingerprint = 0;
  std::string processor;  // processors_of() at the save, as bits depend on it; empty: not known
  std::vector<std::vector<int64_t>> last_active;  // [router][expert]: step of its last token
  bool operator==(const TrainingState&) const = default;
};

}  // namespace switchyard::trainer
