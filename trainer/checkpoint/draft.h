#pragma once
// A checkpoint on its way to disk: what this rank will write, and the parts that a save is made of.
// Those that are slow touch neither the run nor the other ranks, so that a thread can do them while
// training goes on (background_save.h).

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "core/io/file_system.h"
#include "core/io/safetensors.h"
#include "parallel/mesh.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/checkpoint/manifest.h"

namespace switchyard::trainer {

// One file of this rank's.
struct ShardDraft {
  std::string name;
  std::vector<TensorToWrite> entries;
  std::vector<at::Tensor> memory;               // holds the bytes of `entries`
  std::map<std::string, TensorRecord> records;  // of the tensors in it, without checksums
};

struct Draft {
  std::string folder, target, temporary;  // all checkpoints'; this step's, at last and until then
  int keep = 0;
  bool is_first = false;  // this is rank 0, which commits
  std::vector<ShardDraft> shards;
  std::string config;  // as text
  Manifest manifest;   // without an inventory
  // What the first rank of a stage, all of whose ranks hold the same tensors, names of them without
  // pieces, so that it shows if no rank writes one.
  std::map<std::string, TensorRecord> named;
};

// Where the bytes lie that a draft is written from.
enum class DraftMemory {
  kRun,   // in the run's own tensors, which must not change before they are written
  kCopy,  // in copies
};

// **Collective.** Makes the folder that the files are written into. Arguments as save_checkpoint()
// has them, whose errors it throws.
Draft begin_draft(const FileSystem& files, const std::string& folder,
                  const CheckpointContent& content, const parallel::Mesh& mesh, int keep,
                  DraftMemory memory);

// Writes this rank's files and returns what they are, as inventory_text().
std::string write_share(const FileSystem& files, const Draft& draft);

// On rank 0, with what every rank has written: puts the step under its name, and removes earlier
// ones. Elsewhere it does nothing.
void commit_draft(const FileSystem& files, const Draft& draft,
                  const std::vector<std::string>& reports);

// **Collective.** Runs a part of a save that agree() or do_on_all() makes fail on all ranks alike;
// rank 0 then removes what the save has left, and all throw on.
void run_or_discard(const FileSystem& files, const Draft& draft, const std::function<void()>& part);

}  // namespace switchyard::trainer
