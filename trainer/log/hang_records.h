#pragma once
// The flight records of a run, as parallel/flight_report.h writes them, read back.

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace switchyard::trainer {

// Where in training: "step 8, forward, micro-batch 0, layer 2"; empty outside of it.
std::string describe_whereabouts(const std::string& phase, int64_t step, int64_t micro_batch,
                                 int64_t layer);

struct HangOperation {
  std::string kind, what, group, state, whereabouts;
  int64_t sequence = 0, bytes_out = 0, bytes_in = 0, root = -1;
  double seconds_ago = 0;  // when it began, before the record was written
  double seconds = 0;      // how long it took, or has taken so far

  bool is_awaited() const { return state == "awaited" || state == "failed"; }
  std::string name() const;  // "all_gather #17 'eval' of world"
};

struct HangGroup {
  int64_t size = 0;     // members
  int64_t started = 0;  // the number of the operation begun last
};

// One rank at the moment when its record was written.
struct HangRank {
  int64_t rank = 0, ranks = 0, process = 0, written = 0;  // written: seconds since 1970
  std::string host, whereabouts, working_on;
  bool is_gone = false;  // its process had ended
  std::map<std::string, HangGroup> groups;
  std::vector<HangOperation> operations;  // the oldest first

  // The operation that it waited in; null: none.
  const HangOperation* awaited() const;
};

struct HangRecords {
  std::string folder;
  std::vector<HangRank> ranks;  // by rank; those without a record are missing
};

// Those of the latest start of the run in `folder` that left any, or those in `folder` itself.
// ConfigError if there are none, DataError that names the first line that is not as a run writes
// it. A last line that was cut off is left out.
HangRecords read_hang_records(const std::string& folder);

}  // namespace switchyard::trainer
