#pragma once
// Checkpoints of a run: <folder>/step_N/ holds weights and optimizer state under global names, so
// that they load on any mesh, and everything else that a resumed run needs. Each is committed by
// one rename and never changed afterwards. docs/checkpoint_format.md describes the files.

#include <optional>
#include <string>

#include "core/config/run_config.pb.h"
#include "core/io/file_system.h"
#include "core/tensor/parameter.h"
#include "optim/optimizer.h"
#include "parallel/mesh.h"
#include "trainer/checkpoint/manifest.h"

namespace switchyard::trainer {

// What is saved. The config is the resolved one.
struct CheckpointContent {
  const config::RunConfig& config;
  ParameterTable& table;
  optim::Optimizer& optimizer;
  const TrainingState& state;
};

// **Collective.** Writes <folder>/step_<state.step>/ (all ranks must see `folder`) and then removes
// older checkpoints, down to the newest `keep` intact ones. keep is at least 2.
//
// If it fails on any rank, it throws the same error on all of them, and the earlier checkpoints are
// as they were. A failure after the commit (LATEST, removing old ones) is only a warning. A
// checkpoint of the same step is replaced. Do not save from two jobs at once: see RunLock.
void save_checkpoint(const FileSystem& files, const std::string& folder,
                     const CheckpointContent& content, const parallel::Mesh& mesh, int keep);

// The newest committed step folder under `folder`; nothing if there is none. Its content is not
// examined. The file LATEST is for people: a warning tells when it names something else than a
// committed step.
std::optional<std::string> latest_checkpoint(const std::string& folder);

// A checkpoint that is open and structurally sound: checksums of the manifest and the config hold,
// every file is there at its size. Not collective; each rank maps the files that it needs.
class CheckpointReader {
 public:
  enum class Contents {
    kAll,
    kWeights,  // optimizer files may be absent
  };
  // Throws CheckpointError that lists every problem found.
  explicit CheckpointReader(std::string path, Contents contents = Contents::kAll);

  const std::string& path() const { return path_; }
  // The config of the run that saved it, resolved: complete, and valid for that number of ranks.
  const config::RunConfig& config() const { return config_; }
  const TrainingState& state() const { return manifest_.state; }
  const Manifest& manifest() const { return manifest_; }

  // Fills the table's values and the master weights that this rank owns, converted if they were
  // saved in another type. Strict: throws CheckpointError that lists all missing, unexpected,
  // misshapen and damaged tensors; the table's content is then unspecified. Warns of NaN and
  // infinity. Tensors of other stages are theirs to check. Requires: an allocated table.
  void load_weights(ParameterTable& table) const;
  // Fills what this rank owns of the optimizer's state, and the step count, as strictly, and in the
  // types it was saved in. `table` is that of the optimizer's parameters. Requires: Contents::kAll.
  void load_optimizer(optim::Optimizer& optimizer, const ParameterTable& table) const;

  // Compares the checksums of every `parts`-th piece, beginning with number `part`, so that ranks
  // can share the work. Throws CheckpointError that lists the damaged ones.
  void verify(int part = 0, int parts = 1) const;

 private:
  std::string path_;
  Contents contents_;
  Manifest manifest_;
  config::RunConfig config_;
};

// **Collective.** What `--resume auto` resumes from: the newest checkpoint whose tensors all match
// their checksums; the ranks share the checking. Each damaged one that is passed over is a warning
// that says what is wrong with it. Nothing if no step was ever committed; CheckpointError if steps
// were but all are damaged, or if one is of another version of the format.
std::optional<CheckpointReader> open_newest_valid(const std::string& folder,
                                                  parallel::Communicator& world);

}  // namespace switchyard::trainer
