#pragma once
// Pre-emption: the first SIGTERM, SIGINT, SIGUSR1 or SIGHUP asks the run to finish its step, save
// and leave; a second one ends it. SIGUSR1 is the one that mpirun hands on: to the others it
// answers by killing the ranks a second later. SIGHUP only ever asks: a terminal that closes may
// send it twice, and SIGTERM after it.

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
