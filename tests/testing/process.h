#pragma once
// Programs started by a test: output captured, signals, and an end in any case.

#include <sys/types.h>

#include <functional>
#include <iosfwd>
#include <string>
#include <vector>

namespace switchyard::testing {

struct Outcome {
  int code = 0;  // exit code; 128 + number of the signal that ended it
  std::string output;
};
// For the messages of failed tests.
void PrintTo(const Outcome& outcome, std::ostream* out);

class Process {
 public:
  // Starts `command` (a path and its arguments) with stdout and stderr in one file at `log`.
  Process(const std::vector<std::string>& command, std::string log);
  ~Process();  // kills it if it still runs
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  bool is_running();
  // Waits until `condition` holds; false if the program ends or a minute passes before.
  bool wait_until(const std::function<bool()>& condition);
  // Waits for the end. A program that takes longer than two minutes is killed, and the test fails.
  Outcome finish();

  void send(int signal) const;
  // The processes at the ends of the tree that it has started: the ranks of a job, or itself.
  std::vector<pid_t> leaves() const;

 private:
  void kill_all();

  pid_t pid_ = 0;
  int status_ = 0;
  bool ended_ = false;
  std::string log_;
};

// Whole file; empty if there is none.
std::string read_file(const std::string& path);
void write_file(const std::string& path, const std::string& bytes);

}  // namespace switchyard::testing
