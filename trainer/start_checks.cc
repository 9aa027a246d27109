#include "trainer/start_checks.h"

#include <filesystem>
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
#include "trainer/agreement.h"

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

// Says, beside what went wrong, where and what is expected of a run's folder.
template <typename Work>
std::string on_shared_storage(Work work) {
  try {
    work();
  } catch (const StorageError& error) {
    throw StorageError(fmt::format(
        "host {}: {}; every rank must be able to write to the run's folder and see there what the "
        "others write: set output_dir to a folder that all hosts share",
        host_name(), error.what()));
  }
  return {};
}

}  // namespace

std::string this_program() {
  static const std::string program =
      fmt::format("switchyard {} ({:08x})", kVersion, crc32c(MappedFile("/proc/self/exe").bytes()));
  return program;
}

void check_same_on_all(const RankIdentity& own, parallel::Communicator& world) {
  const auto gathered = world.all_gather_text(
      fmt::format("{:016x}{:016x}{:016x}{}", Fingerprint().add(own.config).value(),
                  own.data_fingerprint, own.tokenizer_fingerprint, own.program),
      "identity of each rank");
  const auto difference_in = [&](size_t begin, size_t count) {
    std::vector<std::string> values;
    for (const std::string& identity : gathered) values.push_back(identity.substr(begin, count));
    return describe_difference(values);
  };
  if (const auto difference = difference_in(48, std::string::npos); !difference.empty())
    throw CommError(fmt::format("ranks run different programs ({}); start the same one everywhere",
                                difference));
  if (const auto difference = difference_in(0, 16); !difference.empty())
    throw CommError(fmt::format("ranks have different configs, by their hashes ({})", difference));
  if (const auto difference = difference_in(16, 16); !difference.empty())
    throw DataError(
        fmt::format("ranks see different training data, by their fingerprints ({}); give all hosts "
                    "the same files at the same paths",
                    difference));
  if (const auto difference = difference_in(32, 16); !difference.empty())
    throw DataError(fmt::format(
        "data.tokenizer is not the same on all ranks, by its fingerprint ({}); give all hosts the "
        "same file at the same path",
        difference));
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
    agree(world, "writing to the run's folder", [&] {
      return on_shared_storage([&] { write_file_atomically(files, own, as_byte_span(id)); });
    });
    // A ring: wherever ranks do not share a folder, there is a rank whose neighbour is beyond.
    agree(world, "seeing what others write", [&] {
      const std::string neighbour = path_of((world.rank() + 1) % world.size());
      return on_shared_storage([&] { (void)read_text_file(neighbour, id.size()); });
    });
  } catch (const Error&) {
    std::error_code ignored;
    std::filesystem::remove(own, ignored);
    throw;
  }
  agree(world, "removing from the run's folder",
        [&] { return on_shared_storage([&] { files.remove_all(own); }); });
}

}  // namespace switchyard::trainer
