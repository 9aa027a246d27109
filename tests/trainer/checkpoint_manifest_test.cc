#include "trainer/checkpoint/manifest.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "core/base/random.h"
#include "tests/trainer/checkpoint_fixture.h"

namespace switchyard::trainer {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using Json = nlohmann::json;

Manifest example() {
  Manifest manifest;
  manifest.num_ranks = 4;
  manifest.mesh = {{"data", 4}, {"expert", 2}};
  manifest.inventory.files = {{"config.textproto", 12}, {"w.safetensors", uint64_t{1} << 40}};
  manifest.inventory.tensors = {
      {"norm",
       {DType::kFloat64,
        {5},
        {{"w.safetensors", "norm[0:2]", {{0}, {2}}, 0xdeadbeef},
         {"w.safetensors", "norm[2:5]", {{2}, {3}}, 1}}}},
      {"scale", {DType::kFloat32, {}, {{"w.safetensors", "scale", {}, 7}}}}};
  manifest.state = state_at(12);
  manifest.state.processor = "AuthenticAMD 25.17, AVX2";
  return manifest;
}

std::string error_of(const Json& json) {
  return checkpoint_error_of([&] { (void)parse_manifest(json.dump(), "f.json"); });
}

TEST(Manifest, ComesBackFromItsText) {
  const Manifest manifest = example();
  const Manifest back = parse_manifest(manifest_text(manifest), "f.json");
  EXPECT_EQ(back.num_ranks, 4);
  EXPECT_EQ(back.mesh, manifest.mesh);
  EXPECT_EQ(back.inventory, manifest.inventory);
  EXPECT_EQ(back.state, manifest.state);
}

TEST(Manifest, HasTheDocumentedText) {
  EXPECT_EQ(manifest_text(example()),
            R"({"files":{"config.textproto":{"bytes":12},"w.safetensors":{"bytes":1099511627776}},)"
            R"("format":"switchyard checkpoint","format_version":2,)"
            R"("mesh":{"data":4,"expert":2},"num_ranks":4,)"
            R"("state":{"data_draws":[72,24],"data_fingerprint":"fedcba9876543210",)"
            R"("data_sequence":96,"last_active":[[12,0,6,12],[0,12,12,6]],)"
            R"("losses":{"mean":2.1,"steps":12,"variance":0.0625},"optimizer_steps":8,)"
            R"("processor":"AuthenticAMD 25.17, AVX2",)"
            R"("skipped_in_a_row":3,"skipped_steps":4,"step":12,)"
            R"("tokenizer_fingerprint":"0000000000000042","tokens":12000},)"
            R"("tensors":{"norm":{"dtype":"F64","pieces":[{"crc32c":"deadbeef",)"
            R"("entry":"norm[0:2]","extent":[2],"file":"w.safetensors","offset":[0]},)"
            R"({"crc32c":"00000001","entry":"norm[2:5]","extent":[3],"file":"w.safetensors",)"
            R"("offset":[2]}],"shape":[5]},"scale":{"dtype":"F32","pieces":[{)"
            R"("crc32c":"00000007","entry":"scale","extent":[],"file":"w.safetensors",)"
            R"("offset":[]}],"shape":[]}}})"
            "\n");
}

TEST(Manifest, SaysWhichMemberIsWrongAndHow) {
  const Json valid = Json::parse(manifest_text(example()));
  const auto with = [&](const char* pointer, const Json& value) {
    Json json = valid;
    json[Json::json_pointer(pointer)] = value;
    return error_of(json);
  };
  EXPECT_THAT(with("/format", "zip"),
              HasSubstr("f.json: format: expected \"switchyard checkpoint\""));
  EXPECT_THAT(with("/format_version", 0), HasSubstr("format_version: expected an integer from 1"));
  EXPECT_THAT(with("/state/step", -1), HasSubstr("state.step: expected an integer from 0"));
  EXPECT_THAT(with("/state/step", 1.5), HasSubstr("got \"1.5\""));
  EXPECT_THAT(with("/state/tokens", UINT64_MAX), HasSubstr("state.tokens: expected an integer"));
  EXPECT_THAT(with("/state/skipped_in_a_row", int64_t{1} << 31), HasSubstr("from 0 to 4"));
  EXPECT_THAT(with("/state/skipped_in_a_row", 5), HasSubstr("state.skipped_in_a_row: expected"));
  EXPECT_THAT(with("/state/skipped_steps", 13), HasSubstr("state.skipped_steps: expected"));
  EXPECT_THAT(with("/state/optimizer_steps", 9),
              HasSubstr("state.optimizer_steps: expected step less skipped_steps, 8, got 9"));
  EXPECT_THAT(with("/state/losses/steps", 13), HasSubstr("state.losses.steps: expected"));
  EXPECT_THAT(with("/state/last_active/0/1", 13),
              HasSubstr("state.last_active[0][1]: expected an integer from 0 to 12, got \"13\""));
  EXPECT_THAT(with("/files/manifest.json", {{"bytes", 1}}),
              HasSubstr("files.\"manifest.json\": the manifest lists the others"));
  for (const char* member :
       {"/state/step", "/state/tokens", "/state/optimizer_steps", "/state/data_sequence"})
    EXPECT_THAT(with(member, INT64_MAX), HasSubstr("to 1152921504606846976"));
  EXPECT_THAT(with("/state/data_draws", {72, 23}),
              HasSubstr("state.data_draws: expected numbers that add up to data_sequence, 96"));
  EXPECT_THAT(with("/state/losses/variance", -1.0),
              HasSubstr("state.losses.variance: expected at least 0, got -1"));
  EXPECT_THAT(with("/state/losses/mean", "2"), HasSubstr("state.losses.mean: expected a number"));
  EXPECT_THAT(with("/state/last_active", {1}),
              HasSubstr("state.last_active[0]: expected an array"));
  EXPECT_THAT(with("/state/data_fingerprint", "12"), HasSubstr("16 lower-case hexadecimal digits"));
  EXPECT_THAT(with("/num_ranks", 0), HasSubstr("num_ranks: expected an integer from 1"));
  EXPECT_THAT(with("/tensors/norm/shape/0", -5), HasSubstr("tensors.\"norm\".shape[0]"));
  EXPECT_THAT(with("/tensors/norm/dtype", "F8"), HasSubstr("unknown dtype \"F8\""));
  EXPECT_THAT(with("/tensors/norm/pieces/0/file", "x"), HasSubstr("\"x\" is not one of the files"));
  EXPECT_THAT(with("/tensors/norm/pieces/0/crc32c", "DEADBEEF"),
              HasSubstr("tensors.\"norm\".pieces[0].crc32c: expected 8 lower-case hexadecimal"));
  EXPECT_THAT(with("/tensors/norm/pieces/1/extent", {4}),
              HasSubstr("offset [2] and extent [4] do not lie within shape [5]"));
  EXPECT_THAT(with("/tensors/norm/pieces/1/extent", {2}),
              HasSubstr("the pieces of \"norm\": 1 of 5 numbers are not there, the first of them "
                        "in [4]"));
  EXPECT_THAT(with("/tensors/norm/pieces/1/offset", {1}),
              HasSubstr("the pieces of \"norm\": [0:2] and [1:4] overlap"));
  EXPECT_THAT(with("/tensors/norm/pieces/1/entry", "norm[0:2]"),
              HasSubstr("entry \"norm[0:2]\" of w.safetensors is another piece already"));
  EXPECT_THAT(with("/tensors/norm/shape", {int64_t{1} << 62, 8}), HasSubstr("too many elements"));
  EXPECT_THAT(with("/mesh/tensor", 0), HasSubstr("mesh.\"tensor\": expected an integer from 1"));
  EXPECT_THAT(with("/tensors", Json::array()), HasSubstr("tensors: expected an object"));
  EXPECT_THAT(with("/surprise", 1), HasSubstr("f.json: unexpected member \"surprise\""));
}

TEST(Manifest, MissesEveryMember) {
  const Json valid = Json::parse(manifest_text(example()));
  for (const Json& nested :
       {Json(""), Json("/state"), Json("/tensors/norm"), Json("/tensors/norm/pieces/0")}) {
    const Json::json_pointer at(nested.get<std::string>());
    for (const auto& [name, value] : valid[at].items()) {
      Json json = valid;
      json[at].erase(name);
      if (name == "processor" || name == "losses") continue;
      EXPECT_THAT(error_of(json), HasSubstr("\"" + name + "\" is missing"));
    }
  }
  Json json = valid;
  json["files"].erase("config.textproto");
  EXPECT_THAT(error_of(json), HasSubstr("files: \"config.textproto\" is missing"));
}

TEST(Manifest, NeedsAnotherProgramForAnotherVersion) {
  Json json = Json::parse(manifest_text(example()));
  for (const auto& [version, how] : {std::pair{1, "older"}, std::pair{3, "newer"}}) {
    json["format_version"] = version;
    EXPECT_THROW((void)parse_manifest(json.dump(), "f.json"), OtherVersionError);
    EXPECT_THAT(error_of(json),
                HasSubstr(fmt::format("format_version: is version {} of the checkpoint format, {} "
                                      "than version 2",
                                      version, how)));
  }
}

TEST(Manifest, SurvivesMutationsWithNothingButACheckpointError) {
  const std::string valid = manifest_text(example());
  const Random random(1, Stream::kInit, 0);
  int refused = 0;
  constexpr int kRounds = 2000;
  for (uint64_t round = 0; round < kRounds; ++round) {
    std::string text = valid;
    const uint64_t bits = random.bits64(round);
    const size_t at = bits % text.size();
    switch (round % 4) {
      case 0:
        text[at] = static_cast<char>(bits >> 40);
        break;
      case 1:
        text.erase(at, 1 + (bits >> 40) % 8);
        break;
      case 2:
        text.insert(at, valid, (bits >> 20) % valid.size(), 1 + (bits >> 40) % 8);
        break;
      default:
        text.resize(at);
    }
    try {
      (void)parse_manifest(text, "f.json");
    } catch (const CheckpointError&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, kRounds / 2);
}

TEST(CommitFile, ComesBackFromItsText) {
  const std::map<std::string, std::string> digests = {{"a", std::string(64, 'a')},
                                                      {"b.json", std::string(64, '0')}};
  EXPECT_EQ(parse_commit(commit_text(digests), "COMMIT"), digests);
}

TEST(CommitFile, RefusesWhatSha256sumWouldNotWrite) {
  const std::string digest(64, 'a');
  for (const std::string& text :
       {digest + "  a", digest + " a\n", digest + "   a\n", digest.substr(1) + "  a\n",
        "A" + digest.substr(1) + "  a\n", digest + "  \n", digest + "  ../a\n", std::string("\n"),
        digest + "  a\n\n", std::string(1000, '\0')}) {
    EXPECT_THAT(checkpoint_error_of([&] { (void)parse_commit(text, "COMMIT"); }),
                HasSubstr("COMMIT:"))
        << text;
  }
  EXPECT_THAT(checkpoint_error_of(
                  [&] { (void)parse_commit(digest + "  a\n" + digest + "  a\n", "COMMIT"); }),
              HasSubstr("COMMIT:2: a is listed twice"));
}

}  // namespace
}  // namespace switchyard::trainer
