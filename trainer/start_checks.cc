#include "trainer/start_checks.h"

#include <filesystem>
#include <functional>
#include <map>
#include <random>
#include <system_error>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/base/errors.h"
#include "core/base/fingerprint.h"
#include "core/base/process.h"
#include "core/base/version.h"
#include "core/io/bytes.h"
#include "core/io/checksum.h"
#include "parallel/agreement.h"

namespace switchyard::trainer {
namespace {

// "rank 0, 2: 1f; rank 1: 2e"; empty if all are the same.
std::string describe_difference(const std::vector<std::string>& values) {
  std::map<std::string, std::vector<size_t>> ranks;
  for (size_t rank = 0; rank < values.size(); ++rank) ranks[values[rank]].push_back(rank);
  if (ranks.size() == 1) return {};
  std::vector<std::string> parts;
  for (const auto& [value, having] : ranks)
    parts.push_back(fmt::format("rank {}: {}", fmt::join(having, ", "), value));
  return fmt::format("{}", fmt::join(parts, "; "));
}

// **Collective.** Does the work on all ranks. An error says, beside what went wrong, on which host
// and what is expected of a run's folder.
void do_on_storage(parallel::Communicator& world, const char* what,
                   const std::function<void()>& work) {
  parallel::do_on_all(world, what, [&] {
    try {
      work();
    } catch (const StorageError& error) {
      throw StorageError(fmt::format(
          "host {}: {}; every rank must be able to write to the run's folder and see there what "
          "the others write: set output_dir to a folder that all hosts share",
          host_name(), error.what()));
    }
  });
}

}  // namespace

std::string this_program() {
  static const std::string program =
      fmt::format("switchyard {} ({:08x})", kVersion, crc32c(MappedFile("/proc/self/exe").bytes()));
  return program;
}

void check_same_on_all(const RankIdentity& own, parallel::Communicator& world) {
  const auto difference = [&](const std::string& value) {
    return describe_difference(world.all_gather_text(value, "identity of each rank"));
  };
  const auto hash = [](uint64_t fingerprint) { return fmt::format("{:016x}", fingerprint); };
  if (const auto found = difference(own.program); !found.empty())
    throw CommError(
        fmt::format("ranks run different programs ({}); start the same one everywhere", found));
  if (const auto found = difference(hash(Fingerprint().add(own.config).value())); !found.empty())
    throw CommError(fmt::format("ranks have different configs, by their hashes ({})", found));
  if (const auto found = difference(hash(own.data_fingerprint)); !found.empty())
    throw DataError(
        fmt::format("ranks see different training data, by their fingerprints ({}); give all hosts "
                    "the same files at the same paths",
                    found));
  if (const auto found = difference(hash(own.tokenizer_fingerprint)); !found.empty())
    throw DataError(fmt::format(
        "data.tokenizer is not the same on all ranks, by its fingerprint ({}); give all hosts the "
        "same file at the same path",
        found));
}

void try_storage(const FileSystem& files, const std::string& folder,
                 parallel::Communicator& world) {
  std::string id = fmt::format("{:08x}", std::random_device{}());
  world.broadcast(id.data(), static_cast<int64_t>(id.size()), 0, "storage trial");
  const auto path_of = [&](int rank) {
    return fmt::format("{}/step_0.tmp-trial-{}-{}", folder, id, rank);
  };
  const std::string own = path_of(world.rank());
  try {
    do_on_storage(world, "writing to the run's folder",
                  [&] { write_file_atomically(files, own, as_byte_span(id)); });
    // The ranks read in a ring: where two do not share a folder, some rank's neighbour is beyond.
    do_on_storage(world, "seeing what others write", [&] {
      (void)read_text_file(path_of((world.rank() + 1) % world.size()), id.size());
    });
  } catch (const Error&) {
    std::error_code ignored;
    std::filesystem::remove(own, ignored);
    throw;
  }
  do_on_storage(world, "removing from the run's folder", [&] { files.remove_all(own); });
}

}  // namespace switchyard::trainer
