#include "trainer/run_folder.h"

#include <filesystem>

namespace switchyard::trainer {

RunFolder::RunFolder(const config::RunConfig& config)
    : path(config.output_dir() + "/" + config.name()) {}

std::string run_of_checkpoint(const std::string& checkpoint) {
  return std::filesystem::path(checkpoint).lexically_normal().parent_path().parent_path().string();
}

}  // namespace switchyard::trainer
