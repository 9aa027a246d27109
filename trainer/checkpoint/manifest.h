#pragma once
// manifest.json of a checkpoint: which files, which tensors, the mesh that wrote it and the
// training state. And COMMIT, the list of all files' SHA-256. Text in, text out; free of LibTorch.

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/dtype.h"
#include "core/base/errors.h"
#include "trainer/checkpoint/training_state.h"

namespace switchyard::trainer {

inline constexpr int kCheckpointVersion = 1;
inline constexpr const char* kManifestFile = "manifest.json";
inline constexpr const char* kConfigFile = "config.textproto";
inline constexpr const char* kCommitFile = "COMMIT";

// Not damaged, but written by a newer program: falling back to an older step would be wrong.
class NewerVersionError : public CheckpointError {
 public:
  using CheckpointError::CheckpointError;
};

struct TensorRecord {
  std::string file;
  DType dtype = DType::kFloat32;
  std::vector<int64_t> shape;
  uint32_t crc32c = 0;
  bool operator==(const TensorRecord&) const = default;
};

// Of one rank, or of the whole checkpoint.
struct Inventory {
  std::map<std::string, uint64_t> files;        // name -> bytes
  std::map<std::string, TensorRecord> tensors;  // global name -> where and what
  std::map<std::string, std::string> digests;   // file name -> SHA-256; travels in COMMIT
  bool operator==(const Inventory&) const = default;
};

struct Manifest {
  int num_ranks = 0;
  struct Degrees {
    int data = 0, expert = 0, expert_data = 0;
  } mesh;
  Inventory inventory;
  TrainingState state;
};

// Whether it is the name of a tensor of the optimizer's state: weights have no slash in theirs.
bool is_optimizer_state(std::string_view tensor);

// Without the digests.
std::string manifest_text(const Manifest& manifest);
// Believes nothing: throws CheckpointError that names `where` and the field, NewerVersionError for
// a version beyond ours.
Manifest parse_manifest(std::string_view text, const std::string& where);

// What a rank tells rank 0 about the files it wrote; with the digests. Our own text on both sides.
std::string inventory_text(const Inventory& inventory);
Inventory parse_inventory(std::string_view text);

// One line per file as sha256sum writes it, so that `sha256sum -c COMMIT` checks the folder.
std::string commit_text(const std::map<std::string, std::string>& digests);
std::map<std::string, std::string> parse_commit(std::string_view text, const std::string& where);

}  // namespace switchyard::trainer
