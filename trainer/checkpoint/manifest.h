#pragma once
// manifest.json of a checkpoint: which files, which tensors, the mesh that wrote it and the
// training state. And COMMIT, the list of all files' SHA-256. Text in, text out; free of LibTorch.

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/box.h"
#include "core/base/dtype.h"
#include "core/base/errors.h"
#include "trainer/checkpoint/training_state.h"

namespace switchyard::trainer {

inline constexpr int kCheckpointVersion = 2;
inline constexpr const char* kManifestFile = "manifest.json";
inline constexpr const char* kConfigFile = "config.textproto";
inline constexpr const char* kCommitFile = "COMMIT";

// Thrown for a step that is not damaged, but of another version of the format: to fall back to the
// step before would be wrong.
class OtherVersionError : public CheckpointError {
 public:
  using CheckpointError::CheckpointError;
};

// A box of a tensor, which is one entry of a file.
struct PieceRecord {
  std::string file, entry;
  Box box;
  uint32_t crc32c = 0;
  bool operator==(const PieceRecord&) const = default;
};

struct TensorRecord {
  DType dtype = DType::kFloat32;
  std::vector<int64_t> shape;       // of the whole tensor
  std::vector<PieceRecord> pieces;  // in a whole checkpoint each element is in exactly one
  bool operator==(const TensorRecord&) const = default;
};

// What one rank wrote, or what the whole checkpoint holds.
struct Inventory {
  std::map<std::string, uint64_t> files;        // name -> bytes
  std::map<std::string, TensorRecord> tensors;  // global name -> what and where
  std::map<std::string, std::string> digests;   // file name -> SHA-256; travels in COMMIT
  bool operator==(const Inventory&) const = default;
};

struct Manifest {
  int num_ranks = 0;
  std::map<std::string, int32_t> mesh;  // name of an axis -> its degree; for information
  Inventory inventory;
  TrainingState state;
};

// Whether the name is that of a tensor of the optimizer's state: those of weights have no slash.
bool is_optimizer_state(std::string_view tensor);

// The text leaves out the digests, which are COMMIT's.
std::string manifest_text(const Manifest& manifest);
// Believes nothing: throws CheckpointError that names `where` and the field, OtherVersionError for
// another version than ours. Every element of a tensor is in exactly one of its pieces, and the
// numbers of the state agree with each other.
Manifest parse_manifest(std::string_view text, const std::string& where);

// What keeps the pieces of a tensor from being all of it, with its name; "" if nothing does.
std::string pieces_problem(const std::string& name, const TensorRecord& tensor);

// What a rank tells rank 0 about the files it wrote, digests included. This program writes and
// reads it: what is wrong with it is a CheckError.
std::string inventory_text(const Inventory& inventory);
Inventory parse_inventory(std::string_view text);

// One line per file as sha256sum writes it, so that `sha256sum -c COMMIT` checks the folder.
std::string commit_text(const std::map<std::string, std::string>& digests);
std::map<std::string, std::string> parse_commit(std::string_view text, const std::string& where);

}  // namespace switchyard::trainer
