#pragma once
// What must hold of the ranks together before the first step, so that a run does not fail at its
// first save, or learn from a mixture that nobody asked for.

#include <cstdint>
#include <string>

#include "core/io/file_system.h"
#include "parallel/communicator.h"

namespace switchyard::trainer {

// What must be the same on all ranks.
struct RankIdentity {
  std::string program;
  std::string config;  // resolved, as text
  uint64_t data_fingerprint = 0;
  uint64_t tokenizer_fingerprint = 0;
};

// This program's version and the checksum of its file.
std::string this_program();

// **Collective.** Throws on all ranks what differs, with the ranks that have each value: CommError
// for programs and configs, DataError for data and tokenizers.
void check_same_on_all(const RankIdentity& own, parallel::Communicator& world);

// **Collective.** Every rank writes a small file in `folder`, syncs and renames it, finds its
// neighbour's, and removes its own. StorageError on all ranks that names those that cannot, with
// their hosts. `folder` is one of checkpoints: a save removes what a killed trial leaves.
void try_storage(const FileSystem& files, const std::string& folder, parallel::Communicator& world);

}  // namespace switchyard::trainer
