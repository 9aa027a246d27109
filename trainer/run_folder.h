#pragma once
// A run is a folder: config, log, metrics, checkpoints; nothing of the run lies outside it.

#include <string>

#include "core/config/run_config.pb.h"

namespace switchyard::trainer {

// The folder <output_dir>/<name> and the paths of what it holds.
struct RunFolder {
  std::string path;

  explicit RunFolder(const config::RunConfig& config)
      : path(config.output_dir() + "/" + config.name()) {}

  std::string config() const { return path + "/config.textproto"; }
  std::string log() const { return path + "/log.txt"; }
  std::string metrics() const { return path + "/metrics.jsonl"; }
  std::string timing() const { return path + "/timing.jsonl"; }
  std::string events() const { return path + "/tensorboard"; }
  std::string checkpoints() const { return path + "/checkpoints"; }
  std::string tokenizer() const { return path + "/tokenizer.model"; }
  std::string crash(int rank) const { return path + "/crash-rank" + std::to_string(rank) + ".txt"; }
  // Of the flight records of one start of the run, "20261126T181530Z".
  std::string hang(const std::string& start) const { return path + "/hang/" + start; }
};

}  // namespace switchyard::trainer
