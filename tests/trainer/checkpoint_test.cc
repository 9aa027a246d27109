#include "trainer/checkpoint/checkpoint.h"
#include "core/tensor/aten.h"

#include <filesystem>
#include <limits>

#include <gmock/gmock.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include "core/base/errors.h"
#include "parallel/single.h"
#include "parallel/thread.h"
#include "tests/core/io/temp_folder.h"
#include "tests/trainer/checkpoint_fixture.h"
#include "trainer/checkpoint/manifest.h"

namespace switchyard::trainer {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

struct Layout {
  int ranks;
  int expert;
};
constexpr Layout kLayouts[] = {{1, 1}, {2, 1}, {2, 2}, {4, 1}, {4, 2}, {4, 4}};

void save_in(const Layout& layout, const std::string& folder, int64_t step) {
  save_step_by(layout.ranks, folder, step, layout.expert);
}

TEST(Checkpoint, LoadsEveryByteOnAnyNumberOfRanks) {
  for (const Layout& writers : kLayouts) {
    TempFolder folder;
    save_in(writers, folder.path(), 3);
    for (const int readers : {1, 2, 4}) {
      SCOPED_TRACE(testing::Message() << writers.ranks << " ranks with experts over "
                                      << writers.expert << " write, " << readers << " read");
      parallel::ThreadGroup(readers).run(
          [&](parallel::Communicator& world) { expect_holds(folder.file("step_3"), 3, world); });
    }
  }
}

TEST(Checkpoint, HoldsTheSameTensorsWhateverTheMeshOfItsWriters) {
  TempFolder folder;
  std::vector<std::map<std::string, TensorRecord>> tensors;
  for (const Layout& writers : kLayouts) {
    const std::string path = folder.file(std::to_string(tensors.size()));
    save_in(writers, path, 3);
    tensors.push_back(CheckpointReader(path + "/step_3").manifest().inventory.tensors);
    for (auto& [name, record] : tensors.back())
      for (PieceRecord& piece : record.pieces) piece.file.clear();  // the only difference
    EXPECT_EQ(tensors.back(), tensors.front()) << writers.ranks << " " << writers.expert;
  }
}

TEST(Checkpoint, HoldsAStackOfExpertsExpertByExpert) {
  TempFolder folder;
  save_step_by(2, folder.path(), 1);
  const CheckpointReader reader(folder.file("step_1"));
  const auto& tensors = reader.manifest().inventory.tensors;
  EXPECT_EQ(tensors.size(), 3 * 4U);
  ASSERT_EQ(tensors.at("embedding").pieces.size(), 1U);
  EXPECT_EQ(tensors.at("embedding").pieces[0].entry, "embedding");
  const TensorRecord& w13 = tensors.at("layers.0.experts.w13");
  EXPECT_EQ(w13.shape, (std::vector<int64_t>{kNumExperts, 3, 5}));
  ASSERT_EQ(w13.pieces.size(), kNumExperts);
  EXPECT_EQ(w13.pieces[3].entry, "layers.0.experts.w13[3:4]");
  EXPECT_EQ(w13.pieces[3].box, (Box{{3, 0, 0}, {1, 3, 5}}));
  EXPECT_EQ(tensors.at("first_moment/layers.0.experts.w2").pieces.size(), kNumExperts);
  EXPECT_TRUE(tensors.contains("second_moment/norm"));
}

TEST(Checkpoint, HasOneShardOfEachKindPerRank) {
  TempFolder folder;
  save_step_by(2, folder.path(), 1);
  EXPECT_THAT(names_in(folder.path()), ElementsAre("LATEST", "step_1"));
  EXPECT_THAT(
      names_in(folder.file("step_1")),
      ElementsAre("COMMIT", "config.textproto", "manifest.json",
                  "optimizer-00000-of-00002.safetensors", "optimizer-00001-of-00002.safetensors",
                  "weights-00000-of-00002.safetensors", "weights-00001-of-00002.safetensors"));
}

TEST(Checkpoint, SharesTheWritingAmongTheRanksThatHoldATensor) {
  for (const Layout& writers : kLayouts) {
    TempFolder folder;
    save_in(writers, folder.path(), 1);
    const CheckpointReader reader(folder.file("step_1"));
    std::map<std::string, int> experts_in;
    for (const auto& [name, record] : reader.manifest().inventory.tensors) {
      if (!name.starts_with("layers.0.experts.")) continue;
      for (const PieceRecord& piece : record.pieces) ++experts_in[piece.file];
    }
    EXPECT_EQ(experts_in.size(), static_cast<size_t>(writers.ranks));
    for (const auto& [file, count] : experts_in) {
      EXPECT_EQ(count, 2 * kNumExperts / writers.ranks) << file;
    }
  }
}

TEST(Checkpoint, CanBeCheckedWithSha256sum) {
  TempFolder folder;
  save_step_by(2, folder.path(), 1);
  const std::string check = "cd '" + folder.file("step_1") + "' && sha256sum --quiet -c COMMIT";
  EXPECT_EQ(std::system(check.c_str()), 0);
}

TEST(Checkpoint, KeepsFloat64AndFillsTheComputeTypesCopy) {
  TempFolder folder;
  const auto world = parallel::make_single();
  TinyModel model(*world, at::kDouble);
  model.fill(5);
  save_checkpoint({}, folder.path(), {debug_config(), model.table, *model.optimizer, state_at(5)},
                  model.mesh, 2);
  expect_holds(folder.file("step_5"), 5, *world, at::kDouble);
  save_step(*world, folder.path(), 6);  // from float32 weights
  expect_holds(folder.file("step_6"), 6, *world, at::kBFloat16);
}

TEST(Checkpoint, ReturnsTheConfigOfTheRun) {
  TempFolder folder;
  save_step_by(1, folder.path(), 1);
  EXPECT_TRUE(google::protobuf::util::MessageDifferencer::Equals(
      CheckpointReader(folder.file("step_1")).config(), debug_config()));
}

TEST(Checkpoint, LoadsWeightsWithoutTheOptimizersFiles) {
  TempFolder folder;
  save_step_by(2, folder.path(), 1);
  for (const auto& name : names_in(folder.file("step_1"))) {
    if (name.starts_with("optimizer")) std::filesystem::remove(folder.file("step_1/" + name));
  }
  EXPECT_THAT(checkpoint_error_of([&] { CheckpointReader reader(folder.file("step_1")); }),
              AllOf(HasSubstr("optimizer-00000-of-00002.safetensors: No such file"),
                    HasSubstr("optimizer-00001-of-00002.safetensors: No such file")));
  const CheckpointReader reader(folder.file("step_1"), CheckpointReader::Contents::kWeights);
  reader.verify();
  const auto world = parallel::make_single();
  TinyModel expected(*world), loaded(*world);
  expected.fill(1);
  reader.load_weights(loaded.table);
  EXPECT_TRUE(at::equal(loaded.table.groups()[0].master, expected.table.groups()[0].master));
}

TEST(Checkpoint, ListsEveryTensorThatDoesNotFitTheModel) {
  TempFolder folder;
  save_step_by(1, folder.path(), 1);
  ParameterTable table;
  const Scope root(table);
  root.table("embedding", {6, 4}, {});        // other shape
  root.vector("bias", {5}, Use::kShift, {});  // in place of norm
  const Scope experts = root / "layers" / 0 / "experts";
  experts.of_experts(kNumExperts + 1).matrix("w13", {3, 5}, {});  // one more
  experts.of_experts(kNumExperts).matrix("w2", {5, 2}, {});
  table.allocate(at::kFloat);
  const CheckpointReader reader(folder.file("step_1"));
  EXPECT_THAT(
      checkpoint_error_of([&] { reader.load_weights(table); }),
      AllOf(HasSubstr("step_1:\n"),
            HasSubstr("tensor \"embedding\" is F32 [6, 5], the model needs F32 [6, 4]"),
            HasSubstr("unexpected tensor \"norm\" F32 [5]: the model has none of this name"),
            HasSubstr("missing tensor \"bias\" F32 [5]"),
            HasSubstr("tensor \"layers.0.experts.w13\" is F32 [4, 3, 5], the model needs F32 [5, "
                      "3, 5]"),
            Not(HasSubstr(".w2")), Not(HasSubstr("moment"))));
  const auto world = parallel::make_single();
  const parallel::Mesh mesh(*world, MeshShape());
  const auto optimizer = optim::make_adamw(debug_config().optimizer(), table.groups(), mesh);
  EXPECT_THAT(checkpoint_error_of([&] { reader.load_optimizer(*optimizer, table); }),
              AllOf(HasSubstr("missing tensor \"first_moment/bias\""),
                    HasSubstr("missing tensor \"second_moment/bias\"")));
}

TEST(Checkpoint, ConvertsWeightsToAnotherElementTypeButRefusesMoments) {
  TempFolder folder;
  save_step_by(1, folder.path(), 1);
  const auto world = parallel::make_single();
  TinyModel saved(*world), model(*world, at::kDouble);
  saved.fill(1);
  const CheckpointReader reader(folder.file("step_1"));
  reader.load_weights(model.table);
  for (size_t i = 0; i < model.table.groups().size(); ++i)
    EXPECT_TRUE(
        at::equal(model.table.groups()[i].master, saved.table.groups()[i].master.to(at::kDouble)));
  EXPECT_THAT(checkpoint_error_of([&] { reader.load_optimizer(*model.optimizer, model.table); }),
              HasSubstr("tensor \"first_moment/norm\" is F32 [5], the model needs F64 [5]"));
}

// A stack of experts of two parts each, dealt over both axes of a mesh: no rank's share of an
// expert is one run of memory, in the file or in the model.
struct DealtModel {
  DealtModel(parallel::Communicator& world, int expert)
      : mesh(world, MeshShape({.data = world.size(), .expert = expert})) {
    Parameter stack;
    stack.name = "stack";
    stack.shape = {kNumExperts, 6, 3};
    stack.part_dim = 1;
    stack.parts = {{"wide", 4, {}}, {"narrow", 2, {}}};
    stack.cuts = {{Axis::kExpert, 0}, {Axis::kExpertData, 1}};
    stack.summed = {};
    stack.layout = mesh.layout();
    table.add(stack);
    table.allocate(at::kFloat);
    table.initialize(7);
    optimizer = optim::make_adamw(debug_config().optimizer(), table.groups(), mesh);
    optimizer->state()[0].owned[0].values.copy_(table.parameters()[0].owned[0].values).mul_(3);
  }

  parallel::Mesh mesh;
  ParameterTable table;
  std::unique_ptr<optim::Optimizer> optimizer;
};

TEST(Checkpoint, LoadsPartsThatAreDealtOverTwoAxesOnAnyMesh) {
  constexpr Layout kDeals[] = {{1, 1}, {2, 1}, {2, 2}, {4, 2}};
  for (const Layout& writers : kDeals) {
    TempFolder folder;
    parallel::ThreadGroup(writers.ranks).run([&](parallel::Communicator& world) {
      DealtModel model(world, writers.expert);
      save_checkpoint({}, folder.path(),
                      {debug_config(), model.table, *model.optimizer, state_at(1)}, model.mesh, 2);
    });
    for (const Layout& readers : kDeals) {
      SCOPED_TRACE(testing::Message() << writers.ranks << "/" << writers.expert << " write, "
                                      << readers.ranks << "/" << readers.expert << " read");
      parallel::ThreadGroup(readers.ranks).run([&](parallel::Communicator& world) {
        DealtModel expected(world, readers.expert), loaded(world, readers.expert);
        loaded.table.groups()[0].master.zero_();
        loaded.optimizer->state()[0].owned[0].values.zero_();
        const CheckpointReader reader(folder.file("step_1"));
        reader.load_weights(loaded.table);
        reader.load_optimizer(*loaded.optimizer, loaded.table);
        EXPECT_TRUE(at::equal(loaded.table.groups()[0].master, expected.table.groups()[0].master));
        EXPECT_TRUE(at::equal(loaded.optimizer->state()[0].owned[0].values,
                              expected.optimizer->state()[0].owned[0].values));
      });
    }
  }
}

TEST(Checkpoint, WarnsOfNaNAndInfinityInWeights) {
  TempFolder folder;
  const auto world = parallel::make_single();
  TinyModel model(*world);
  model.fill(1);
  model.table.parameters()[0].master.view(-1)[3] = std::numeric_limits<float>::quiet_NaN();
  model.table.parameters()[0].master.view(-1)[4] = -std::numeric_limits<float>::infinity();
  save_checkpoint({}, folder.path(), {debug_config(), model.table, *model.optimizer, state_at(1)},
                  model.mesh, 2);
  const CheckpointReader reader(folder.file("step_1"));
  EXPECT_THAT(warnings_of([&] { reader.load_weights(model.table); }),
              HasSubstr("tensor embedding holds 2 values that are NaN or infinite"));
}

}  // namespace
}  // namespace switchyard::trainer
