#pragma once
// The flight recorders of this node's ranks as files: written when a wait fails, when a rank
// crashes, and when SIGUSR2 asks. Any rank can write for all of its node, for those too that are
// stuck or dead. `switchyard inspect RUN --hang` reads the files (trainer/log/hang_report.h).

#include <span>
#include <string>

#include "parallel/board.h"

namespace switchyard::parallel {

// Has SIGUSR2 write the records. Call in main before MPI starts.
void install_flight_report();

// Whose boards: by world rank, null for ranks of other nodes; they must stay where they are. Empty:
// there are none any more. The setters are for one thread.
void set_flight_boards(std::span<RankBoard* const> boards);
// Where to: `path` and the folder it lies in are made by the first report. Empty, or longer than
// 4,000 bytes: nowhere.
void set_flight_folder(const std::string& path);

enum class FlightReport {
  kBegin,  // makes the folder
  kJoin  // does nothing unless another rank has made it: this one is told to end, and might be why
};
// Writes rank_N.jsonl for each rank of this node (docs/formats.md has the lines), but for those
// whom somebody has written for within the last seconds. Safe in a signal handler. Errors are
// passed over.
void write_flight_records(FlightReport report);

}  // namespace switchyard::parallel
