#pragma once
// A tiny model by hand, whose every byte follows from a seed and not from the layout, and the
// saving and checking of its checkpoints.

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "core/io/file_system.h"
#include "core/tensor/parameter.h"
#include "optim/optimizer.h"
#include "parallel/communicator.h"
#include "parallel/mesh.h"
#include "trainer/checkpoint/checkpoint.h"

namespace switchyard::trainer {

inline constexpr int kNumExperts = 4;

// The resolved configs/debug.textproto.
config::RunConfig debug_config();

// A dense matrix, a norm and two stacks of four experts, with an optimizer.
struct TinyModel {
  explicit TinyModel(parallel::Communicator& world, at::ScalarType compute = at::kFloat,
                     std::optional<int> expert_degree = {});

  // Weights from the seed, moments from the weights; alike on every mesh.
  void fill(uint64_t seed);

  parallel::Mesh mesh;
  ParameterTable table;
  std::unique_ptr<optim::Optimizer> optimizer;
};

// Every field has a value of its own.
TrainingState state_at(int64_t step);

// **Collective.** Saves the model filled with the seed `step`, keeping two.
void save_step(parallel::Communicator& world, const std::string& folder, int64_t step,
               const FileSystem& files = {}, std::optional<int> expert_degree = {});
// The same by that many threads; without degrees all experts are spread.
void save_step_by(int ranks, const std::string& folder, int64_t step,
                  std::optional<int> expert_degree = {});

// Loads `path` into a fresh model and compares every byte with the seed `step`'s.
void expect_holds(const std::string& path, int64_t step, parallel::Communicator& world,
                  at::ScalarType compute = at::kFloat);
void expect_holds(const std::string& path, int64_t step);

// The message of the CheckpointError that `work` must throw.
std::string checkpoint_error_of(const std::function<void()>& work);
// What `work` writes to stderr.
std::string warnings_of(const std::function<void()>& work);

std::vector<std::string> names_in(const std::string& folder);  // sorted
void flip_bit(const std::string& path, uint64_t offset);

}  // namespace switchyard::trainer
