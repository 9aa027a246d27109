#include "tests/trainer/checkpoint_fixture.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <numeric>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "core/base/errors.h"
#include "core/config/reader.h"
#include "core/tensor/aten.h"
#include "parallel/single.h"
#include "parallel/thread.h"

namespace switchyard::trainer {
namespace {

void expect_same_stretches(const std::vector<Stretch>& is, const std::vector<Stretch>& should,
                           const std::string& what) {
  ASSERT_EQ(is.size(), should.size()) << what;
  for (size_t i = 0; i < is.size(); ++i) {
    EXPECT_EQ(is[i].range.begin, should[i].range.begin) << what;
    EXPECT_TRUE(at::equal(is[i].values, should[i].values)) << what;
  }
}

}  // namespace

config::RunConfig debug_config() {
  static const config::RunConfig config =
      config::load_config(std::string(std::getenv("SY_TEST_ROOT")) + "/configs/debug.textproto");
  return config;
}

TinyModel::TinyModel(parallel::Communicator& world, at::ScalarType compute,
                     std::optional<int> expert_degree)
    : mesh(world,
           MeshShape({.data = world.size(),
                      .expert = expert_degree.value_or(std::gcd(world.size(), kNumExperts))})) {
  const Scope root(table, mesh.layout());
  root.table("embedding", {6, 5}, {});
  root.vector("norm", {5}, Use::kScale, {});
  const Scope experts = (root / "layers" / 0 / "experts").of_experts(kNumExperts);
  experts.matrix("w13", {3, 5}, {});
  experts.matrix("w2", {5, 2}, {});
  table.allocate(compute);
  optimizer = optim::make_adamw(debug_config().optimizer(), table.groups(), mesh);
}

void TinyModel::fill(uint64_t seed) {
  table.initialize(seed);
  for (const optim::StateTensor& tensor : optimizer->state())
    for (size_t i = 0; i < tensor.owned.size(); ++i)
      tensor.owned[i]
          .values.copy_(tensor.parameter->owned[i].values)
          .mul_(tensor.kind == "first_moment" ? 1 : -2);
  optimizer->set_num_steps(state_at(static_cast<int64_t>(seed)).optimizer_steps);
}

TrainingState state_at(int64_t step) {
  TrainingState state;
  state.step = step;
  state.tokens = 1000 * step;
  state.optimizer_steps = step - step / 3;
  state.skipped_in_a_row = static_cast<int32_t>(step / 4);
  state.skipped_steps = step / 3;
  state.losses = {2.1, 0.0625, step};
  state.data = {8 * step, {6 * step, 2 * step}};
  state.data_fingerprint = 0xfedcba9876543210;
  state.tokenizer_fingerprint = 0x0000000000000042;
  state.last_active = {{step, 0, step / 2, step}, {0, step, step, step / 2}};
  return state;
}

void save_step(parallel::Communicator& world, const std::string& folder, int64_t step,
               const FileSystem& files, std::optional<int> expert_degree) {
  TinyModel model(world, at::kFloat, expert_degree);
  model.fill(static_cast<uint64_t>(step));
  save_checkpoint(files, folder, {debug_config(), model.table, *model.optimizer, state_at(step)},
                  model.mesh, /*keep=*/2);
}

void save_step_by(int ranks, const std::string& folder, int64_t step,
                  std::optional<int> expert_degree) {
  parallel::ThreadGroup(ranks).run(
      [&](parallel::Communicator& world) { save_step(world, folder, step, {}, expert_degree); });
}

void expect_holds(const std::string& path, int64_t step, parallel::Communicator& world,
                  at::ScalarType compute) {
  TinyModel expected(world, compute), loaded(world, compute);
  expected.fill(static_cast<uint64_t>(step));
  const CheckpointReader reader(path);
  reader.load_weights(loaded.table);
  reader.load_optimizer(*loaded.optimizer, loaded.table);
  EXPECT_EQ(reader.state(), state_at(step)) << path;
  EXPECT_EQ(loaded.optimizer->num_steps(), expected.optimizer->num_steps()) << path;
  for (size_t i = 0; i < loaded.table.groups().size(); ++i) {
    const ParameterGroup &is = loaded.table.groups()[i], &should = expected.table.groups()[i];
    expect_same_stretches(is.owned, should.owned, fmt::format("{} group {}", path, i));
    EXPECT_TRUE(at::equal(is.value, should.value)) << path << " group " << i;
  }
  const auto is = loaded.optimizer->state(), should = expected.optimizer->state();
  for (size_t i = 0; i < should.size(); ++i)
    expect_same_stretches(is[i].owned, should[i].owned,
                          fmt::format("{} {} {}", path, should[i].kind, i));
}

void expect_holds(const std::string& path, int64_t step) {
  const auto world = parallel::make_single();
  expect_holds(path, step, *world);
}

std::string checkpoint_error_of(const std::function<void()>& work) {
  try {
    work();
  } catch (const CheckpointError& error) {
    return error.what();
  }
  ADD_FAILURE() << "expected a CheckpointError";
  return "";
}

std::string warnings_of(const std::function<void()>& work) {
  testing::internal::CaptureStderr();
  work();
  return testing::internal::GetCapturedStderr();
}

std::vector<std::string> names_in(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    names.push_back(entry.path().filename().string());
  }
  std::ranges::sort(names);
  return names;
}

void flip_bit(const std::string& path, uint64_t offset) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(static_cast<std::streamoff>(offset));
  const auto flipped = static_cast<char>(file.get() ^ 1);
  file.seekp(static_cast<std::streamoff>(offset));
  file.put(flipped);
  ASSERT_TRUE(file.good()) << path;
}

}  // namespace switchyard::trainer
