#pragma once
// What a process that dies of a fault (SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, and by the last
// std::terminate too) leaves behind: rank, step, its last collective and a backtrace, on stderr and
// in a file. The signal then takes its course, so that launchers and core dumps see what happened.

#include <cstdint>
#include <string>

#include "parallel/board.h"

namespace switchyard::parallel {

// Call in main before MPI starts, which brings handlers of its own unless it finds some. Threads
// other than the caller's report all but the overflow of their stacks.
void install_crash_report();

// What a report says from now on. The setters are for one thread.
void set_crash_rank(int rank, const RankBoard* board);  // null: no collectives to tell of
void set_crash_step(int64_t step);                      // the step under way
// `path` is created by a crash and otherwise left alone; longer than 4,095 bytes, or empty: none.
void set_crash_file(const std::string& path);

}  // namespace switchyard::parallel
