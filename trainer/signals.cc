#include "trainer/signals.h"

#include <csignal>

#include "parallel/flight_report.h"

namespace switchyard::trainer {
namespace {

constexpr int kStopSignals[] = {SIGTERM, SIGINT};  // the second one ends the process

// A signal handler can reach nothing but flags of static storage.
volatile std::sig_atomic_t stop_requested = 0;
volatile std::sig_atomic_t next_one_ends = 0;

extern "C" void on_stop_signal(int signal) {
  parallel::write_flight_records(parallel::FlightReport::kJoin);
  if (next_one_ends) {
    std::signal(signal, SIG_DFL);
    std::raise(signal);
  }
  next_one_ends = 1;
  stop_requested = 1;
}

extern "C" void on_request(int) { stop_requested = 1; }

}  // namespace

StopSignals::StopSignals() {
  next_one_ends = 0;
  stop_requested = 0;
  for (const int signal : kStopSignals) std::signal(signal, on_stop_signal);
  std::signal(SIGUSR1, on_request);
  if (std::signal(SIGHUP, on_request) == SIG_IGN) std::signal(SIGHUP, SIG_IGN);
}

StopSignals::~StopSignals() {
  for (const int signal : kStopSignals) std::signal(signal, SIG_DFL);
  std::signal(SIGUSR1, SIG_DFL);
  if (std::signal(SIGHUP, SIG_DFL) == SIG_IGN) std::signal(SIGHUP, SIG_IGN);
}

std::string StopSignals::names() {
  struct sigaction hangup {};
  sigaction(SIGHUP, nullptr, &hangup);
  return std::string("SIGTERM, SIGINT, SIGUSR1") + (hangup.sa_handler == SIG_IGN ? "" : ", SIGHUP");
}

bool StopSignals::is_requested() const { return stop_requested != 0; }

}  // namespace switchyard::trainer
