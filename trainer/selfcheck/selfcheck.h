#pragma once
// `switchyard selfcheck`: whether a run computes the same on every mesh. A few steps of the user's
// own config on one rank, then on each legal mesh, by the product's step; all that they compute is
// compared.

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/config/run_config.pb.h"
#include "parallel/communicator.h"
#include "trainer/selfcheck/blame.h"
#include "trainer/selfcheck/trace.h"

namespace switchyard::trainer {

struct SelfcheckOptions {
  int ranks = 4;  // threads of this process; under mpirun the job's ranks
  int64_t steps = 3;
  std::string inject = {};  // a Mistake's name; empty: none
  int local_ranks = 1;      // of the job on this machine; each runs the config on one rank too
  bool quick = false;       // on few meshes, in which every axis and pair of axes occurs
};

// How far one quantity of one mesh is from that of one rank.
struct Judgement {
  Quantity quantity;
  double error = 0, allowed = 0;  // of routing, the share of the slots that differ
  std::string where = {};         // the tensor of the greatest error
  int64_t step = 0;               // the first that misses, else the one closest to it
  bool misses = false;
  bool is_coarse = false;  // the L2 norm of the difference, where single numbers cannot be compared
  int64_t differing = 0, decisions = 0;  // of routing, over all steps
};

struct MeshReport {
  config::Mesh mesh;
  AxisSet axes;
  std::vector<Judgement> judgements;  // of what the model has, in the order of quantities

  bool misses() const;
};

struct SelfcheckReport {
  config::RunConfig config;  // as it was run on one rank
  SelfcheckOptions options;
  std::vector<std::string> changes;  // to the config, so that meshes can be compared
  std::vector<MeshReport> meshes;

  bool passed() const;
  // Of one quantity; of all without one.
  std::vector<Cause> causes(std::optional<Quantity> quantity = {}) const;
};

// What is going on: a run ("one rank", "data 4, expert 2") and how many steps of all runs are done.
using SelfcheckProgress = std::function<void(const std::string& run, int64_t done, int64_t total)>;

// **Collective** over `world`: if it is of one rank, the ranks of meshes are threads. `progress` is
// called on rank 0. The config is resolved; its own mesh does not count. Throws ConfigError where
// no mesh goes with it or memory is short, and for an unknown mistake, or one that none of the
// meshes can show; else as training does.
SelfcheckReport selfcheck(const config::RunConfig& config, const SelfcheckOptions& options,
                          parallel::Communicator& world, const SelfcheckProgress& progress);

// What is allowed, by the differences themselves: see docs/guide/selfcheck.md.
std::vector<Judgement> judge(const Differences& differences, config::ComputeType compute);

// For people, or for programs.
std::string render(const SelfcheckReport& report, bool json);

}  // namespace switchyard::trainer
