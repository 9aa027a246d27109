#pragma once
// The folder that holds a run's checkpoints: which of them are committed and sound, the pointer to
// the latest, the removal of old ones. Free of LibTorch; not collective.
//
//   step_<N>/               committed if it holds COMMIT
//   step_<N>.tmp-<id>/      being written or removed: never read
//   step_<N>.replaced-<id>/ an earlier save of the same step, until the new one has its name
//   step_<N>.abandoned-<n>/ of a branch that the run went back from: kept, but never chosen
//   LATEST                  the name of the newest, for people

#include <cstdint>
#include <string>
#include <vector>

#include "core/io/file_system.h"
#include "trainer/checkpoint/manifest.h"

namespace switchyard::trainer {

inline constexpr const char* kLatestFile = "LATEST";

struct StepFolder {
  int64_t step = 0;
  bool is_replaced = false;
  std::string path;
};

std::string step_path(const std::string& folder, int64_t step);

// Newest first. Empty if `folder` does not exist; StorageError if that cannot be told.
std::vector<StepFolder> committed_steps(const std::string& folder);

// What the small files of a step's folder hold.
struct SavedStep {
  Manifest manifest;
  std::string config;  // the text of config.textproto
};

// Reads the small files, and holds the folder against COMMIT and the manifest: the digests of the
// small files, the sizes of all. `weights_only` leaves out shards that hold no weights. Throws
// CheckpointError that lists every problem.
SavedStep read_step(const std::string& path, bool weights_only);

void write_latest(const FileSystem& files, const std::string& folder, int64_t step);

// Removes steps older than the newest `keep` intact ones, of which `saved`, just committed, is the
// first. Steps beyond `saved`, from before the run went back to an earlier step, are left alone.
void remove_old_steps(const FileSystem& files, const std::string& folder, int64_t saved, int keep);

// Renames all steps after `step`, to which the run went back, so that the next start does not
// choose the newest of them. Returns the new names, newest first.
std::vector<std::string> abandon_later_steps(const FileSystem& files, const std::string& folder,
                                             int64_t step);

// Removes what dead runs left behind. Requires: nobody is saving.
void remove_leftovers(const FileSystem& files, const std::string& folder);

}  // namespace switchyard::trainer
