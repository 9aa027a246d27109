#pragma once
// Starting threads on a machine that may be out of them: the bare error, "Resource temporarily
// unavailable", says neither what was wanted nor which limit to raise.

#include <string>
#include <system_error>
#include <thread>
#include <utility>

namespace switchyard {

// Throws ConfigError: what could not be started, why, and the limits that this process has.
[[noreturn]] void throw_no_thread(const std::string& what, const std::error_code& cause);

// `what` is for the message: "the thread that reads data".
template <typename Work>
std::jthread start_thread(const std::string& what, Work&& work) {
  try {
    return std::jthread(std::forward<Work>(work));
  } catch (const std::system_error& error) {
    throw_no_thread(what, error.code());
  }
}

// Starts so many threads at once and ends them again. OpenMP ends the process where it cannot start
// its own, so this asks first. ConfigError.
void try_threads(int count);

}  // namespace switchyard
