#pragma once
// What a few steps of training compute, as named tensors of global shape of which each rank shows
// its pieces. The steps are the product's own.

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/config/run_config.pb.h"
#include "parallel/communicator.h"
#include "trainer/checkpoint/tensors.h"
#include "trainer/selfcheck/mistakes.h"

namespace switchyard::trainer {

// In the order in which one follows from the other within a step.
enum class Quantity : uint8_t { kRouting, kLoss, kGradient, kNorm, kState, kWeight };
inline constexpr std::array kAllQuantities = {Quantity::kRouting,  Quantity::kLoss,
                                              Quantity::kGradient, Quantity::kNorm,
                                              Quantity::kState,    Quantity::kWeight};
// "routing", "loss", "gradients", "gradient norm", "optimizer state", "weights".
const char* name_of(Quantity quantity);

// One tensor as this rank holds it: the decisions of a router, [tokens, choices] int64, twice the
// expert's number and 1 more where the slot has a place; a number of the step; a parameter's
// gradient, as the optimizer gets it, or its weights; a tensor of the optimizer's state.
struct Reading {
  Quantity quantity;
  int64_t step = 0;  // from 1; of state and weights the last
  std::string name;
  std::vector<int64_t> shape = {};  // of the whole; empty: not known to one rank alone (routing)
  std::vector<StoredBox> boxes = {};
};
using Observer = std::function<void(const Reading&)>;

struct Watch {
  int64_t steps = 1;
  const Mistake* mistake = nullptr;  // made on purpose; null: none
  Observer observe;                  // the memory of a reading is valid during the call
  std::function<void(int64_t step)> step_done = {};
};

// **Collective** over `world`. Trains from scratch on the config's data and shows every rank what
// it holds.
void train_watched(const config::RunConfig& config, parallel::Communicator& world,
                   const Watch& watch);

}  // namespace switchyard::trainer
