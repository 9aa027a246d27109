#pragma once
// Which library multiplies a job's matrices, so that the same run is the same bits: decided once
// for all ranks, written into the resolved config, kept by a run that goes on.

#include "core/config/run_config.pb.h"
#include "parallel/communicator.h"
#include "trainer/trainer.h"

namespace switchyard::trainer {

// `runtime` with both products set: what it leaves unset becomes what suits this processor best.
// This process goes on with the products that it has.
config::Runtime with_best_products(config::Runtime runtime);

// **Collective.** `asked` with float32_products and bfloat16_products set, and this process's
// products going by them from here on: what `asked` sets; else what rank 0's `kept` sets, the
// config of the run that goes on; else what suits rank 0's processor best. The latter two give way,
// with a warning, where some rank's processor cannot. ConfigError on all ranks if one cannot do
// what `asked` sets.
config::Runtime agree_on_products(config::Runtime asked, const config::Runtime& kept,
                                  parallel::Communicator& world);

// The products of the run that `resume` goes on with; unset where there is none that can be read
// (the trainer says why). Not collective.
config::Runtime products_of_run(const config::RunConfig& config, const Resume& resume);

// **Collective.** processor_name() of all ranks: one where all are alike, else each with the number
// of neighbouring ranks that have it.
std::string processors_of(parallel::Communicator& world);

// "products: float32 ONEDNN, bfloat16 NATIVE (AuthenticAMD 25.17, AVX512)"
std::string describe_products(const config::Runtime& runtime);

}  // namespace switchyard::trainer
