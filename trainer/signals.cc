#include "trainer/signals.h"

#include <csignal>
#include <cstring>

#include <fmt/format.h>

namespace switchyard::trainer {
namespace {

constexpr int kStopSignals[] = {SIGTERM, SIGINT, SIGUSR1};

// A signal handler can reach nothing but flags of static storage.
volatile std::sig_atomic_t stop_requested = 0;
volatile std::sig_atomic_t next_one_ends = 0;

extern "C" void on_stop_signal(int signal) {
  if (next_one_ends) {
    std::signal(signal, SIG_DFL);
    std::raise(signal);
  }
  stop_requested = next_one_ends = 1;
}

extern "C" void on_hangup(int) { stop_requested = 1; }

}  // namespace

StopSignals::StopSignals() {
  stop_requested = next_one_ends = 0;
  for (const int signal : kStopSignals) std::signal(signal, on_stop_signal);
  if (std::signal(SIGHUP, on_hangup) == SIG_IGN) std::signal(SIGHUP, SIG_IGN);
}

StopSignals::~StopSignals() {
  for (const int signal : kStopSignals) std::signal(signal, SIG_DFL);
  if (std::signal(SIGHUP, SIG_DFL) == SIG_IGN) std::signal(SIGHUP, SIG_IGN);
}

std::string StopSignals::names() {
  std::string text;
  for (const int signal : kStopSignals) text += fmt::format("SIG{}, ", sigabbrev_np(signal));
  struct sigaction hangup {};
  sigaction(SIGHUP, nullptr, &hangup);
  if (hangup.sa_handler != SIG_IGN) return text + "SIGHUP";
  return text.substr(0, text.size() - 2);
}

bool StopSignals::is_requested() const { return stop_requested != 0; }

}  // namespace switchyard::trainer
