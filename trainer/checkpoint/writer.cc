#include <algorithm>
#include <filesystem>
#include <functional>
#include <map>
#include <random>
#include <system_error>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/base/errors.h"
#include "core/base/log.h"
#include "core/config/print.h"
#include "core/io/bytes.h"
#include "core/io/safetensors.h"
#include "core/tensor/aten.h"
#include "parallel/agreement.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/checkpoint/folder.h"
#include "trainer/checkpoint/manifest.h"
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

void write_shard(const FileSystem& files, const std::string& folder, const std::string& name,
                 const std::vector<StoredTensor>& tensors, Inventory& inventory) {
  std::vector<TensorToWrite> to_write;
  std::vector<at::Tensor> contiguous;  // lives until its bytes are in the file
  for (const auto& tensor : tensors) {
    for (const StoredBox& piece : pieces_to_write(tensor)) {
      const std::string entry = tensor.name + slice_text(piece.box, tensor.shape);
      contiguous.push_back(piece.memory.contiguous());
      to_write.push_back({entry, tensor.dtype, piece.box.extent, bytes_of(contiguous.back())});
      TensorRecord& record = inventory.tensors[tensor.name];
      record.dtype = tensor.dtype;
      record.shape = tensor.shape;
      record.pieces.push_back({name, entry, piece.box, 0});
    }
  }
  const auto written = write_safetensors(files, folder + "/" + name, std::move(to_write));
  std::map<std::string, uint32_t> checksums;
  for (const auto& tensor : written.tensors) checksums[tensor.name] = tensor.crc32c;
  for (auto& [tensor, record] : inventory.tensors)
    for (PieceRecord& piece : record.pieces)
      if (piece.file == name) piece.crc32c = checksums.at(piece.entry);
  inventory.files[name] = written.file_bytes;
  inventory.digests[name] = to_hex(written.sha256);
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

// Writes this rank's share of the files.
Inventory write_share(const FileSystem& files, const std::string& folder,
                      const CheckpointContent& content, const parallel::Mesh& mesh) {
  Inventory inventory;
  write_shard(files, folder, shard_name("weights", mesh.control()), stored_weights(content.table),
              inventory);
  write_shard(files, folder, shard_name("optimizer", mesh.control()),
              stored_state(content.optimizer), inventory);
  if (mesh.control().rank() == 0)
    write_text(files, folder, kConfigFile, config::to_text(content.config), inventory);
  return inventory;
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
void check_complete(const Inventory& all, const CheckpointContent& content) {
  auto expected = stored_weights(content.table);
  for (auto& tensor : stored_state(content.optimizer)) expected.push_back(std::move(tensor));
  for (const auto& tensor : expected) {
    SY_CHECK(all.tensors.contains(tensor.name), "no rank wrote tensor {}", tensor.name);
    const std::string problem = pieces_problem(tensor.name, all.tensors.at(tensor.name));
    SY_CHECK(problem.empty(), "{}", problem);
  }
  SY_CHECK(all.tensors.size() == expected.size(), "{} tensors were written, expected {}",
           all.tensors.size(), expected.size());
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
void commit(const FileSystem& files, const std::string& temporary, const std::string& target,
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

void write_and_commit(const FileSystem& files, const std::string& temporary,
                      const std::string& target, const CheckpointContent& content,
                      const parallel::Mesh& mesh) {
  parallel::Communicator& world = mesh.control();
  const bool is_first = world.rank() == 0;
  parallel::do_on_all(world, "checkpoint folder", [&] {
    if (is_first) files.create_directory(temporary);
  });
  const auto reports = parallel::agree(world, "checkpoint shards", [&] {
    return inventory_text(write_share(files, temporary, content, mesh));
  });
  parallel::do_on_all(world, "checkpoint commit", [&] {
    if (!is_first) return;
    Manifest manifest{world.size(), {}, merge(reports), content.state};
    for (const Axis axis : kAllAxes) manifest.mesh[words_of(axis).name] = mesh.shape().size(axis);
    check_complete(manifest.inventory, content);
    commit(files, temporary, target, manifest);
  });
}

}  // namespace

void save_checkpoint(const FileSystem& files, const std::string& folder,
                     const CheckpointContent& content, const parallel::Mesh& mesh, int keep) {
  SY_CHECK(keep >= 2, "keep ({}) must be at least 2: the newest may turn out damaged", keep);
  const std::string target = step_path(folder, content.state.step);
  const std::string temporary = fmt::format("{}.tmp-{}", target, random_id(mesh.control()));
  const bool is_first = mesh.control().rank() == 0;
  try {
    write_and_commit(files, temporary, target, content, mesh);
  } catch (const CommError&) {
    throw;  // peers may still be writing there; the next save removes what is left
  } catch (const Error&) {
    if (is_first) remove_quietly(files, temporary);
    throw;
  }
  if (is_first) tidy_up(files, folder, content.state.step, keep);
}

}  // namespace switchyard::trainer
