// Damaged and hostile checkpoints: found, named, and never more than a CheckpointError.

#include <sys/inotify.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <functional>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "core/base/errors.h"
#include "core/base/random.h"
#include "core/config/print.h"
#include "core/io/bytes.h"
#include "core/io/checksum.h"
#include "core/io/safetensors.h"
#include "parallel/single.h"
#include "parallel/thread.h"
#include "tests/core/io/temp_folder.h"
#include "tests/trainer/checkpoint_fixture.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/checkpoint/manifest.h"

namespace switchyard::trainer {
namespace {

using testing::AllOf;
using testing::HasSubstr;

namespace fs = std::filesystem;

constexpr uint64_t kMaxFileBytes = 1 << 20;

class DamagedCheckpoint : public testing::Test {
 protected:
  DamagedCheckpoint() { save_step_by(2, folder_.path(), 1); }

  std::string path() const { return folder_.file("step_1"); }
  std::string file(const std::string& name) const { return path() + "/" + name; }

  void write(const std::string& name, const std::string& text) const {
    std::ofstream(file(name), std::ios::binary) << text;
  }

  // Makes COMMIT agree with the manifest and the config as they are now.
  void seal() const {
    auto digests = parse_commit(read_text_file(file(kCommitFile), kMaxFileBytes), "");
    for (const char* name : {kManifestFile, kConfigFile}) {
      digests[name] = sha256_hex(as_byte_span(read_text_file(file(name), kMaxFileBytes)));
    }
    write(kCommitFile, commit_text(digests));
  }

  nlohmann::json manifest() const {
    return nlohmann::json::parse(read_text_file(file(kManifestFile), kMaxFileBytes));
  }
  void set_manifest(const nlohmann::json& json) const {
    write(kManifestFile, json.dump());
    seal();
  }

  void set_config(const std::string& text) const {
    write(kConfigFile, text);
    auto json = manifest();
    json["files"][kConfigFile]["bytes"] = text.size();
    set_manifest(json);
  }

  std::string error_on_opening() const {
    return checkpoint_error_of([&] { CheckpointReader reader(path()); });
  }
  std::string error_on_verifying() const {
    return checkpoint_error_of([&] { CheckpointReader(path()).verify(); });
  }
  void load_all() const {
    const auto world = parallel::make_single();
    TinyModel model(*world);
    const CheckpointReader reader(path());
    reader.load_weights(model.table);
    reader.load_optimizer(*model.optimizer, model.table);
  }

  TempFolder folder_;
};

constexpr const char* kWeights0 = "weights-00000-of-00002.safetensors";
constexpr const char* kWeights1 = "weights-00001-of-00002.safetensors";

TEST_F(DamagedCheckpoint, NamesTheTensorOfAFlippedBitInAnyTensor) {
  const Manifest manifest = CheckpointReader(path()).manifest();
  std::vector<PieceRecord> pieces;
  for (const auto& [name, record] : manifest.inventory.tensors)
    pieces.insert(pieces.end(), record.pieces.begin(), record.pieces.end());
  for (const PieceRecord& piece : pieces) {
    const std::string shard = file(piece.file);
    const std::string bytes = read_text_file(shard, kMaxFileBytes);
    const auto header = parse_safetensors(as_byte_span(bytes), shard);
    const auto entry = std::ranges::find(header.entries, piece.entry, &SafetensorsEntry::name);
    const uint64_t offset = header.data_begin + (entry->begin + entry->end) / 2;
    flip_bit(shard, offset);
    const std::string expected = fmt::format("tensor \"{}\" is damaged", piece.entry);
    EXPECT_THAT(error_on_verifying(), HasSubstr(expected));
    EXPECT_THAT(checkpoint_error_of([&] { load_all(); }), HasSubstr(expected));
    flip_bit(shard, offset);
  }
  EXPECT_NO_THROW(load_all());
}

TEST_F(DamagedCheckpoint, FindsAFlippedBitInAnyByteOfTheSmallFiles) {
  for (const char* name : {kCommitFile, kManifestFile, kConfigFile}) {
    const uint64_t size = fs::file_size(file(name));
    const uint64_t stride = std::max<uint64_t>(1, size / 100);
    for (uint64_t offset = 0; offset < size; offset += stride) {
      flip_bit(file(name), offset);
      const std::string commit = read_text_file(file(kCommitFile), kMaxFileBytes);
      // Digests of shards are for sha256sum; loading goes by the tensors' checksums.
      const size_t line = name == kCommitFile ? commit.find(".safetensors", offset) : 0;
      const bool is_shards_digest =
          name == kCommitFile && line != std::string::npos && commit.find('\n', offset) > line;
      if (!is_shards_digest) {
        EXPECT_NE(error_on_opening(), "") << name << " at " << offset;
      }
      flip_bit(file(name), offset);
    }
  }
  EXPECT_NO_THROW(load_all());
}

TEST_F(DamagedCheckpoint, ListsAllFilesThatAreMissingOrCutOff) {
  fs::remove(file(kWeights0));
  fs::resize_file(file(kWeights1), 0);
  EXPECT_THAT(error_on_opening(),
              AllOf(HasSubstr(std::string(kWeights0) + ": No such file or directory"),
                    HasSubstr(std::string(kWeights1) + " has 0 bytes, expected")));
}

// How often `path` is opened in the course of `work`.
int count_opens(const std::string& path, const std::function<void()>& work) {
  const FileDescriptor watch(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  EXPECT_GE(::inotify_add_watch(watch.get(), path.c_str(), IN_OPEN), 0);
  work();
  std::array<inotify_event, 100> events;  // without names, since a file is watched, not a folder
  const ssize_t bytes = ::read(watch.get(), events.data(), sizeof events);
  return bytes < 0 ? 0 : static_cast<int>(bytes / static_cast<ssize_t>(sizeof(inotify_event)));
}

TEST_F(DamagedCheckpoint, ParsesARefusedShardOnceForAllItsTensors) {
  const std::string shard = file("weights-00000-of-00002.safetensors");
  std::fstream(shard, std::ios::in | std::ios::out | std::ios::binary).write("\xff\xff", 2);
  std::string error;
  EXPECT_EQ(count_opens(shard, [&] { error = error_on_verifying(); }), 1);
  EXPECT_THAT(error, HasSubstr("weights-00000-of-00002"));
}

TEST_F(DamagedCheckpoint, RefusesShardsThatWereSwapped) {
  auto json = manifest();
  fs::rename(file(kWeights0), file("aside"));
  fs::rename(file(kWeights1), file(kWeights0));
  fs::rename(file("aside"), file(kWeights1));
  for (const char* name : {kWeights0, kWeights1}) {
    json["files"][name]["bytes"] = fs::file_size(file(name));
  }
  set_manifest(json);  // the sizes fit, so that only the content can tell
  EXPECT_THAT(error_on_verifying(),
              AllOf(HasSubstr("which the manifest does not place there"), HasSubstr("lacks tensor"),
                    HasSubstr(kWeights0), HasSubstr(kWeights1)));
}

TEST_F(DamagedCheckpoint, RefusesAShardOfAnotherStep) {
  save_step_by(2, folder_.path(), 2);
  fs::copy_file(folder_.file("step_2/") + kWeights1, file(kWeights1),
                fs::copy_options::overwrite_existing);
  EXPECT_THAT(error_on_verifying(), HasSubstr("is damaged: expected CRC-32C"));
}

TEST_F(DamagedCheckpoint, RefusesAStepUnderAnotherStepsName) {
  fs::rename(path(), folder_.file("step_8"));
  EXPECT_THAT(checkpoint_error_of([&] { CheckpointReader reader(folder_.file("step_8")); }),
              HasSubstr("the folder's name says step 8, its manifest step 1"));
  fs::rename(folder_.file("step_8"), folder_.file("best"));
  EXPECT_NO_THROW(CheckpointReader(folder_.file("best")).verify());
}

TEST_F(DamagedCheckpoint, RefusesAnExtraTensorInAShard) {
  std::vector<std::byte> bytes(4);
  const auto written =
      write_safetensors(FileSystem(), file(kWeights0), {{"surprise", DType::kFloat32, {1}, bytes}});
  auto json = manifest();
  json["files"][kWeights0]["bytes"] = written.file_bytes;
  set_manifest(json);
  EXPECT_THAT(error_on_verifying(),
              HasSubstr("holds tensor \"surprise\", which the manifest does not place there"));
}

TEST_F(DamagedCheckpoint, RefusesAnotherVersionWithoutFallingBack) {
  save_step_by(1, folder_.path(), 0);
  auto json = manifest();
  json["something"] = "of that version";
  for (const int version : {1, 3}) {
    json["format_version"] = version;
    set_manifest(json);
    const std::string warnings = warnings_of([&] {
      parallel::ThreadGroup(2).run([&](parallel::Communicator& world) {
        EXPECT_THAT(checkpoint_error_of([&] { open_newest_valid(folder_.path(), world); }),
                    HasSubstr(fmt::format("is version {} of the checkpoint format", version)));
      });
    });
    EXPECT_EQ(warnings, "");
  }
}

TEST_F(DamagedCheckpoint, RefusesActivityOfOtherExpertsThanTheConfigs) {
  const auto valid = manifest();
  const std::string expected = "state.last_active: expected a list for each of 2 router(s)";
  auto json = valid;
  json["state"]["last_active"].erase(0);
  set_manifest(json);
  EXPECT_THAT(error_on_opening(), HasSubstr(expected));
  json = valid;
  json["state"]["last_active"][1].erase(0);
  set_manifest(json);
  EXPECT_THAT(error_on_opening(), HasSubstr(expected));
}

TEST_F(DamagedCheckpoint, RefusesFolderWithoutCommit) {
  fs::remove(file(kCommitFile));
  EXPECT_THAT(error_on_opening(), HasSubstr("not a committed checkpoint: it holds no file COMMIT"));
  EXPECT_THAT(checkpoint_error_of([&] { CheckpointReader reader(folder_.file("absent")); }),
              HasSubstr("there is no checkpoint: no such folder"));
}

TEST_F(DamagedCheckpoint, RefusesFilesThatOnlyCommitOrOnlyTheManifestLists) {
  auto json = manifest();
  json["files"]["more.safetensors"] = {{"bytes", 0}};
  set_manifest(json);
  const std::string missing = error_on_opening();
  EXPECT_THAT(missing, HasSubstr("more.safetensors: No such file or directory"));
  EXPECT_THAT(missing, testing::Not(HasSubstr("COMMIT")));
  write("more.safetensors", "");
  EXPECT_THAT(error_on_opening(), HasSubstr("more.safetensors is not in COMMIT"));
  const std::string commit = read_text_file(file(kCommitFile), kMaxFileBytes);
  write(kCommitFile, commit + std::string(64, '0') + "  stray\n");
  EXPECT_THAT(error_on_opening(), HasSubstr("stray is in COMMIT, but not in the manifest"));
}

TEST_F(DamagedCheckpoint, RefusesAConfigThatIsNone) {
  for (const char* text : {"seed: x", "model { unknown: 1 }", "seed: 1"}) {
    set_config(text);
    EXPECT_THAT(error_on_opening(), HasSubstr("config.textproto is not a valid config")) << text;
  }
}

TEST_F(DamagedCheckpoint, OfAnOlderProgramHasTheDefaultsOfWhatCameSince) {
  config::RunConfig older = debug_config();
  older.mutable_model()->mutable_attention()->clear_dropout();
  older.mutable_model()->clear_output_z_loss_coefficient();
  set_config(config::to_text(older));
  EXPECT_EQ(config::to_text(CheckpointReader(path()).config()), config::to_text(debug_config()));
}

TEST_F(DamagedCheckpoint, RefusesNamesThatLeadOutOfTheFolder) {
  const auto valid = manifest();
  const std::string commit = read_text_file(file(kCommitFile), kMaxFileBytes);
  for (const char* name : {"../secret", "/etc/passwd", "..", ".", "", "a/b", "a\nb", "a\\b", "-rf",
                           ".hidden", "a b", "\xc3\xa9"}) {
    auto json = valid;
    json["files"][name] = {{"bytes", 0}};
    set_manifest(json);
    EXPECT_THAT(error_on_opening(), HasSubstr("a file name must have letters, digits")) << name;
    write(kCommitFile, std::string(64, '0') + "  " + name + "\n");
    EXPECT_NE(error_on_opening(), "") << name;
    write(kCommitFile, commit);
  }
}

// Loads a mutated manifest whose digest is right. Anything but success and CheckpointError escapes.
TEST_F(DamagedCheckpoint, SurvivesMutatedManifestsUpToTheLoadedTensors) {
  const std::string valid = read_text_file(file(kManifestFile), kMaxFileBytes);
  const Random random(1, Stream::kInit, 0);
  int refused = 0;
  constexpr int kRounds = 300;
  for (uint64_t round = 0; round < kRounds; ++round) {
    std::string text = valid;
    for (uint64_t i = 0; i <= round % 3; ++i) {
      const uint64_t bits = random.bits64(8 * round + i);
      text[bits % text.size()] = static_cast<char>("0123456789{}[],:\"ae-."[(bits >> 32) % 21]);
    }
    write(kManifestFile, text);
    seal();
    try {
      load_all();
    } catch (const CheckpointError&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, kRounds / 2);
}

}  // namespace
}  // namespace switchyard::trainer
