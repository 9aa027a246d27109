#include "trainer/checkpoint/draft.h"

#include <algorithm>
#include <filesystem>
#include <random>
#include <system_error>

#include <fmt/format.h>

#include "core/base/errors.h"
#include "core/base/log.h"
#include "core/config/print.h"
#include "core/io/bytes.h"
#include "core/tensor/aten.h"
#include "parallel/agreement.h"
#include "trainer/checkpoint/folder.h"
#include "trainer/checkpoint/tensors.h"

namespace switchyard::trainer {
namespace {

std::string random_id(parallel::Communicator& world) {
  std::random_device device;
  uint64_t id = (uint64_t{device()} << 32) | device();
  world.broadcast(&id, sizeof id, 0, "checkpoint id");
  return fmt::format("{:016x}", id);
}

std::string shard_name(const char* kind, const parallel::Communicator& world) {
  return fmt::format("{}-{:05}-of-{:05}.safetensors", kind, world.rank(), world.size());
}

at::Tensor bytes_to_write(const at::Tensor& piece, DraftMemory memory) {
  return memory == DraftMemory::kCopy ? piece.clone(at::MemoryFormat::Contiguous)
                                      : piece.contiguous();
}

ShardDraft draft_shard(const std::string& name, const std::vector<StoredTensor>& tensors,
                       DraftMemory memory) {
  ShardDraft shard{.name = name, .entries = {}, .memory = {}, .records = {}};
  for (const StoredTensor& tensor : tensors) {
    for (const StoredBox& piece : pieces_to_write(tensor)) {
      const std::string entry = tensor.name + slice_text(piece.box, tensor.shape);
      shard.memory.push_back(bytes_to_write(piece.memory, memory));
      shard.entries.push_back(
          {entry, tensor.dtype, piece.box.extent, bytes_of(shard.memory.back())});
      TensorRecord& record = shard.records[tensor.name];
      record.dtype = tensor.dtype;
      record.shape = tensor.shape;
      record.pieces.push_back({name, entry, piece.box, 0});
    }
  }
  return shard;
}

void write_shard(const FileSystem& files, const std::string& folder, const ShardDraft& shard,
                 Inventory& inventory) {
  const auto written = write_safetensors(files, folder + "/" + shard.name, shard.entries);
  std::map<std::string, uint32_t> checksums;
  for (const auto& tensor : written.tensors) checksums[tensor.name] = tensor.crc32c;
  for (const auto& [name, drafted] : shard.records) {
    TensorRecord record = drafted;
    for (PieceRecord& piece : record.pieces) piece.crc32c = checksums.at(piece.entry);
    inventory.tensors[name] = std::move(record);
  }
  inventory.files[shard.name] = written.file_bytes;
  inventory.digests[shard.name] = to_hex(written.sha256);
}

void write_text(const FileSystem& files, const std::string& folder, const std::string& name,
                const std::string& text, Inventory& inventory) {
  OutputFile file = files.create_file(folder + "/" + name);
  file.write(as_byte_span(text));
  file.sync();
  file.close();
  inventory.files[name] = text.size();
  inventory.digests[name] = sha256_hex(as_byte_span(text));
}

Inventory merge(const std::vector<std::string>& reports) {
  Inventory all;
  for (const auto& report : reports) {
    Inventory one = parse_inventory(report);
    all.files.merge(one.files);
    all.digests.merge(one.digests);
    SY_CHECK(one.files.empty(), "two ranks wrote the same file");
    for (auto& [name, tensor] : one.tensors) {
      TensorRecord& record =
          all.tensors.emplace(name, TensorRecord{tensor.dtype, tensor.shape, {}}).first->second;
      SY_CHECK(record.dtype == tensor.dtype && record.shape == tensor.shape,
               "two ranks wrote pieces of another type or shape of tensor {}", name);
      record.pieces.insert(record.pieces.end(), tensor.pieces.begin(), tensor.pieces.end());
    }
  }
  for (auto& [name, tensor] : all.tensors)
    std::ranges::sort(tensor.pieces, {}, [](const PieceRecord& piece) { return piece.box.offset; });
  return all;
}

// Every number of the model must be in exactly one piece that some rank wrote.
void check_complete(const Inventory& all) {
  for (const auto& [name, tensor] : all.tensors) {
    const std::string problem = pieces_problem(name, tensor);
    SY_CHECK(problem.empty(), "{}", problem);
  }
}

// Rank 0 must see what the others wrote.
void check_visible(const std::string& folder, const Inventory& all) {
  for (const auto& [name, bytes] : all.files) {
    std::error_code error;
    const uint64_t actual = std::filesystem::file_size(folder + "/" + name, error);
    if (error || actual != bytes)
      throw StorageError(fmt::format(
          "{}/{}: a rank wrote {} bytes, but rank 0 sees {}; the run's folder must lie on a file "
          "system that all ranks share",
          folder, name, bytes, error ? error.message() : fmt::format("{} bytes", actual)));
  }
}

// Puts the step under its name: before the rename it does not exist, after it it does.
void put_in_place(const FileSystem& files, const std::string& temporary, const std::string& target,
                  Manifest& manifest) {
  Inventory& all = manifest.inventory;
  check_visible(temporary, all);
  const std::string text = manifest_text(manifest);
  write_text(files, temporary, kManifestFile, text, all);
  const std::string list = commit_text(all.digests);
  write_text(files, temporary, kCommitFile, list, all);
  files.sync_directory(temporary);
  std::error_code ignored;
  if (std::filesystem::exists(target, ignored)) {
    const std::string id = temporary.substr(temporary.rfind('-'));
    files.rename(target, target + ".replaced" + id);
  }
  files.rename(temporary, target);
  files.sync_directory(std::filesystem::path(target).parent_path().string());
}

// The step is safe by now, so no failure here is worth the run. Old steps go first, since a full
// disk then has room again, and each part is tried whatever became of the one before.
void tidy_up(const FileSystem& files, const std::string& folder, int64_t step, int keep) {
  const auto attempt = [&](const char* what, const std::function<void()>& part) {
    try {
      part();
    } catch (const Error& error) {
      warn("step {} is saved, but {} in {} failed: {}", step, what, folder, error.what());
    }
  };
  attempt("removing old steps", [&] { remove_old_steps(files, folder, step, keep); });
  attempt("removing leftovers", [&] { remove_leftovers(files, folder); });
  attempt("writing LATEST", [&] { write_latest(files, folder, step); });
}

void remove_quietly(const FileSystem& files, const std::string& path) {
  try {
    files.remove_all(path);
  } catch (const Error& error) {  // the save's own failure is the one to report
    warn("could not remove {}: {}", path, error.what());
  }
}

}  // namespace

Draft begin_draft(const FileSystem& files, const std::string& folder,
                  const CheckpointContent& content, const parallel::Mesh& mesh, int keep,
                  DraftMemory memory) {
  SY_CHECK(keep >= 2, "keep ({}) must be at least 2: the newest may turn out damaged", keep);
  parallel::Communicator& world = mesh.control();
  Draft draft;
  draft.folder = folder;
  draft.target = step_path(folder, content.state.step);
  draft.keep = keep;
  draft.temporary = fmt::format("{}.tmp-{}", draft.target, random_id(world));
  draft.is_first = world.rank() == 0;
  run_or_discard(files, draft, [&] {
    parallel::do_on_all(world, "checkpoint folder", [&] {
      if (draft.is_first) files.create_directory(draft.temporary);
    });
  });
  const bool is_first_of_stage = mesh.shape().group_along(Axis::kPipeline, world.rank()) == 0;
  const auto add = [&](const char* kind, const std::vector<StoredTensor>& tensors) {
    draft.shards.push_back(draft_shard(shard_name(kind, world), tensors, memory));
    if (!is_first_of_stage) return;
    for (const StoredTensor& tensor : tensors)
      draft.named.emplace(tensor.name, TensorRecord{tensor.dtype, tensor.shape, {}});
  };
  add("weights", stored_weights(content.table));
  add("optimizer", stored_state(content.optimizer));
  draft.config = config::to_text(content.config);
  draft.manifest = {world.size(), {}, {}, content.state};
  for (const Axis axis : kAllAxes)
    draft.manifest.mesh[words_of(axis).name] = mesh.shape().size(axis);
  return draft;
}

std::string write_share(const FileSystem& files, const Draft& draft) {
  Inventory inventory;
  for (const ShardDraft& shard : draft.shards)
    write_shard(files, draft.temporary, shard, inventory);
  for (const auto& [name, record] : draft.named) inventory.tensors.try_emplace(name, record);
  if (draft.is_first) write_text(files, draft.temporary, kConfigFile, draft.config, inventory);
  return inventory_text(inventory);
}

void commit_draft(const FileSystem& files, const Draft& draft,
                  const std::vector<std::string>& reports) {
  if (!draft.is_first) return;
  Manifest manifest = draft.manifest;
  manifest.inventory = merge(reports);
  check_complete(manifest.inventory);
  put_in_place(files, draft.temporary, draft.target, manifest);
  tidy_up(files, draft.folder, manifest.state.step, draft.keep);
}

void run_or_discard(const FileSystem& files, const Draft& draft,
                    const std::function<void()>& part) {
  try {
    part();
  } catch (const CommError&) {
    throw;  // peers may still be writing there; the next save removes what is left
  } catch (const Error&) {
    if (draft.is_first) remove_quietly(files, draft.temporary);
    throw;
  }
}

}  // namespace switchyard::trainer
