#pragma once
// The limit that a step's speed is measured against: how fast plain matrix products run here.

#include <string>

#include <ATen/core/Tensor.h>

#include "parallel/communicator.h"

namespace switchyard::trainer {

// **Collective.** FLOP/s of all ranks together in products of this type, by the paths in force
// (core/tensor/gemm.h), each rank with its threads and all at once: the best that was ever measured
// for so many ranks with so many threads on this kind of machine. Other work on the machine makes a
// measurement too low, never too high, so the best is kept in peak_file(). The first measurement
// takes about a second; one that is older than ten minutes is tried again for a tenth of that.
double peak_rate(at::ScalarType type, parallel::Communicator& world);

// Measures this process alone for about a second and keeps the result, in place of an older one
// whatever that was: for a machine that has become slower. FLOP/s.
double measure_peak_rate(at::ScalarType type);

// What peak_rate() or measure_peak_rate() found last for so many ranks with so many threads each,
// or else for one process with as many threads as all of them; 0 if neither was ever measured.
double known_peak_rate(at::ScalarType type, int ranks, int threads);

// $XDG_CACHE_HOME/switchyard/peak_rates.json, or below ~/.cache; empty where there is no home: then
// nothing is kept.
std::string peak_file();

}  // namespace switchyard::trainer
