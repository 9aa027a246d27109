#pragma once
// Pre-emption: SIGTERM, SIGINT, SIGUSR1 and SIGHUP ask the run to finish its step, save and leave;
// a second SIGTERM or SIGINT ends it. SIGUSR1 is the one that mpirun hands on: to the others it
// answers by killing the ranks a second later. It and SIGHUP only ever ask: scripts/launch repeats
// the one until it is heard, and a terminal that closes may send the other twice. SIGTERM and
// SIGINT also come when another machine has given up a hanging job: then this rank adds its flight
// records.

#include <string>

namespace switchyard::trainer {

// Installs the handlers while it lives, and the default ones after. SIGHUP stays ignored where it
// was, as `nohup` wants.
class StopSignals {
 public:
  StopSignals();
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  bool is_requested() const;
  // Names of those that ask now, for people: "SIGTERM, SIGINT, SIGUSR1, SIGHUP".
  static std::string names();
};

}  // namespace switchyard::trainer
