#include "trainer/run_folder.h"

#include <filesystem>

namespace switchyard::trainer {

RunFolder::RunFolder(const config::RunConfig& config)
    : path(config.output_dir() + "/" + config.name()) {}

std::string run_of_checkpoint(const std::string& checkpoint) {
  auto folder = std::filesystem::absolute(checkpoint).lexically_normal();
  if (!folder.has_filename()) folder = folder.parent_path();  // written with a slash at its end
  return folder.parent_path().parent_path().string();
}

}  // namespace switchyard::trainer
