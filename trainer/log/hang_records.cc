#include "trainer/log/hang_records.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <optional>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "core/base/errors.h"
#include "core/io/json.h"

namespace switchyard::trainer {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

std::string whereabouts_of(const Json& line) {
  return describe_whereabouts(line.at("phase"), line.at("step"), line.at("micro_batch"),
                              line.at("layer"));
}

void read_head(const Json& line, HangRank& rank) {
  if (line.at("version") != 1)
    throw DataError(fmt::format("a record of version {}, expected 1", line.at("version").dump()));
  rank.rank = line.at("rank");
  rank.ranks = line.at("ranks");
  rank.process = line.at("process");
  rank.written = line.at("written");
  rank.host = line.at("host");
  rank.whereabouts = whereabouts_of(line);
  rank.working_on = line.at("working_on");
  rank.is_gone = line.at("is_gone");
}

HangOperation operation_of(const Json& line) {
  return {.kind = line.at("operation"),
          .what = line.at("what"),
          .group = line.at("of"),
          .state = line.at("state"),
          .whereabouts = whereabouts_of(line),
          .sequence = line.at("sequence"),
          .bytes_out = line.at("bytes_out"),
          .bytes_in = line.at("bytes_in"),
          .root = line.at("root"),
          .seconds_ago = line.at("us_ago").get<double>() * 1e-6,
          .seconds = line.at("us").get<double>() * 1e-6};
}

// The first line is the rank's; then come its groups and its operations.
void read_line(const Json& line, bool is_first, HangRank& rank) {
  if (is_first) return read_head(line, rank);
  if (line.contains("group")) {
    rank.groups[line.at("group")] = {line.at("size"), line.at("started")};
  } else {
    rank.operations.push_back(operation_of(line));
  }
}

// Those of groups that had the same name before: the numbers begin anew in each.
void drop_earlier_groups(std::vector<HangOperation>& operations) {
  std::map<std::string, int64_t> next;  // from the end backwards
  std::vector<HangOperation> kept;
  for (auto operation = operations.rbegin(); operation != operations.rend(); ++operation) {
    const auto [later, is_new] = next.try_emplace(operation->group, operation->sequence);
    if (!is_new && operation->sequence >= later->second) continue;
    later->second = operation->sequence;
    kept.push_back(*operation);
  }
  std::ranges::reverse(kept);
  operations = std::move(kept);
}

std::optional<HangRank> read_rank(const std::string& path) {
  std::optional<HangRank> rank;
  std::ifstream file(path);
  int number = 0;
  for (std::string line; std::getline(file, line) && !file.eof();) {
    const std::string where = fmt::format("{}:{}", path, ++number);
    const Json json = parse_json(line, where, raise<DataError>);
    const bool is_first = !rank;
    if (is_first) rank.emplace();
    try {
      read_line(json, is_first, *rank);
    } catch (const std::exception& error) {
      throw DataError(fmt::format("{}: not as a run writes it: {}", where, error.what()));
    }
  }
  if (rank) drop_earlier_groups(rank->operations);
  return rank;
}

std::vector<HangRank> read_ranks(const std::string& folder) {
  std::vector<HangRank> ranks;
  std::error_code unknown;
  for (const auto& entry : fs::directory_iterator(folder, unknown)) {
    const std::string name = entry.path().filename();
    if (!name.starts_with("rank_") || !name.ends_with(".jsonl")) continue;
    if (auto rank = read_rank(entry.path())) ranks.push_back(std::move(*rank));
  }
  std::ranges::sort(ranks, {}, &HangRank::rank);
  return ranks;
}

}  // namespace

std::string describe_whereabouts(const std::string& phase, int64_t step, int64_t micro_batch,
                                 int64_t layer) {
  if (step < 0) return "";
  std::string text = fmt::format("step {}, {}", step, phase);
  if (micro_batch >= 0) text += fmt::format(", micro-batch {}", micro_batch);
  if (layer >= 0) text += fmt::format(", layer {}", layer);
  return text;
}

std::string HangOperation::name() const {
  return fmt::format("{} #{} '{}' of {}", kind, sequence, what, group);
}

const HangOperation* HangRank::awaited() const {
  const auto last =
      std::ranges::find_if(operations.rbegin(), operations.rend(), &HangOperation::is_awaited);
  return last == operations.rend() ? nullptr : &*last;
}

HangRecords read_hang_records(const std::string& folder) {
  std::vector<std::string> folders;
  std::error_code unknown;
  for (const auto& entry : fs::directory_iterator(folder + "/hang", unknown))
    folders.push_back(entry.path());
  std::ranges::sort(folders, std::greater());  // named after the time of the start
  folders.push_back(folder);
  for (const std::string& candidate : folders) {
    auto ranks = read_ranks(candidate);
    if (!ranks.empty()) return {candidate, std::move(ranks)};
  }
  throw ConfigError(
      fmt::format("{}: no flight records (hang/*/rank_N.jsonl): ranks write them when one waits in "
                  "vain, crashes or gets SIGUSR2",
                  folder));
}

}  // namespace switchyard::trainer
