// How much memory it takes to load a checkpoint.

#include <gtest/gtest.h>

#include <fstream>
#include <string>

#include "parallel/single.h"
#include "tests/core/io/temp_folder.h"
#include "tests/trainer/checkpoint_fixture.h"
#include "trainer/data_sources.h"
#include "trainer/model_instance.h"

namespace switchyard::trainer {
namespace {

// A line of /proc/self/status, in bytes.
int64_t status_bytes(const std::string& name) {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    int64_t kibibytes = 0;
    if (word == name + ":" && status >> kibibytes) return kibibytes * 1024;
  }
  return 0;
}

// 25 million numbers with their moments: the files have 306 MB, the largest tensor 34.
config::RunConfig large_config() {
  config::RunConfig config = debug_config();
  config::Model& model = *config.mutable_model();
  model.set_d_model(512);
  model.mutable_moe()->set_d_ff(2048);
  return config;
}

// Files are mapped, and what was mapped counts as this process's memory until it is given back.
TEST(CheckpointMemory, OfLoadingIsLittleMoreThanWhatIsLoaded) {
  const TempFolder folder;
  const auto world = parallel::make_single();
  const config::RunConfig config = large_config();
  ModelInstance instance(config, *world);
  fill_first_weights(config, instance.parameters);
  const auto optimizer =
      optim::make_optimizer(config.optimizer(), instance.parameters.groups(), instance.mesh);
  save_checkpoint(FileSystem(), folder.path(),
                  {config, instance.parameters, *optimizer, state_at(1)}, instance.mesh, 2);
  const CheckpointReader checkpoint(folder.file("step_1"));

  std::ofstream("/proc/self/clear_refs") << 5;  // the peak begins anew
  const int64_t before = status_bytes("VmRSS");
  checkpoint.verify();
  checkpoint.load_weights(instance.parameters);
  checkpoint.load_optimizer(*optimizer, instance.parameters);
  const int64_t grown = status_bytes("VmHWM") - before;
  int64_t held = 0;
  for (const ParameterGroup& group : instance.parameters.groups())
    held += 3 * static_cast<int64_t>(group.master.nbytes());
  EXPECT_GT(held, 300e6);
  EXPECT_LT(static_cast<double>(grown), 0.2 * static_cast<double>(held));
}

}  // namespace
}  // namespace switchyard::trainer
