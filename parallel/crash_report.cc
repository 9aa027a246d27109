#include "parallel/crash_report.h"

#include <execinfo.h>
#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <climits>
#include <csignal>

#include "parallel/fixed_text.h"
#include "parallel/flight_report.h"

namespace switchyard::parallel {
namespace {

constexpr struct {
  int number;
  const char* name;
} kFatalSignals[] = {{SIGSEGV, "SIGSEGV"},
                     {SIGBUS, "SIGBUS"},
                     {SIGFPE, "SIGFPE"},
                     {SIGILL, "SIGILL"},
                     {SIGABRT, "SIGABRT"}};
constexpr int kMaxFrames = 64;

// A signal handler can reach nothing but what has static storage.
struct Facts {
  std::atomic<int> rank = 0;
  std::atomic<int64_t> step = -1;  // -1: outside training
  std::atomic<const RankBoard*> board = nullptr;
  std::array<char, PATH_MAX> file{};
  std::atomic_flag is_reporting;
};
Facts facts;
// A handler cannot run on the stack whose overflow it reports.
std::array<std::byte, 64 * 1024> handler_stack;

// Errors are passed over: there is nobody left to tell.
void write_report(int file, int signal) {
  if (file < 0) return;
  const char* name = "";
  for (const auto& fatal : kFatalSignals) {
    if (fatal.number == signal) name = fatal.name;
  }
  FixedText<640> text;
  text.add(FMT_STRING("*** rank {} (process {}) died of {} at step {}; "), facts.rank.load(),
           ::getpid(), name, facts.step.load());
  if (const RankBoard* board = facts.board.load())
    text.add(FMT_STRING("{}"), describe_activity(*board).view());
  else
    text.add(FMT_STRING("without collectives"));
  text.add(FMT_STRING(
      "\nbacktrace (`addr2line -Cfe PROGRAM 0xOFFSET` names the line of PROGRAM(+0xOFFSET)):\n"));
  [[maybe_unused]] ssize_t ignored = ::write(file, text.view().data(), text.view().size());
  void* frames[kMaxFrames];
  ::backtrace_symbols_fd(frames, ::backtrace(frames, kMaxFrames), file);
}

extern "C" void on_fatal_signal(int signal) {
  // A thread that reports already will end them all.
  while (facts.is_reporting.test_and_set()) ::pause();
  write_report(STDERR_FILENO, signal);
  if (facts.file[0] != '\0')
    write_report(
        ::open(facts.file.data(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_NONBLOCK, 0644),
        signal);
  write_flight_records(FlightReport::kBegin);
  ::raise(signal);  // with the default handler back in place; takes effect on return
}

}  // namespace

void install_crash_report() {
  void* frame;
  ::backtrace(&frame, 1);  // loads the unwinder, which a handler must not do
  const stack_t stack{
      .ss_sp = handler_stack.data(), .ss_flags = 0, .ss_size = handler_stack.size()};
  ::sigaltstack(&stack, nullptr);
  struct sigaction action {};
  action.sa_handler = on_fatal_signal;
  ::sigfillset(&action.sa_mask);  // a fault in the handler ends the process, not in a second report
  action.sa_flags = static_cast<int>(SA_RESETHAND | SA_ONSTACK);
  for (const auto& signal : kFatalSignals) ::sigaction(signal.number, &action, nullptr);
}

void set_crash_rank(int rank, const RankBoard* board) {
  facts.rank = rank;
  facts.board = board;
}

void set_crash_step(int64_t step) { facts.step = step; }

void set_crash_file(const std::string& path) {
  facts.file[0] = '\0';  // no crash may find half a path
  if (path.empty() || path.size() >= facts.file.size()) return;
  path.copy(facts.file.data() + 1, path.size() - 1, 1);
  facts.file[path.size()] = '\0';
  std::atomic_signal_fence(std::memory_order_release);
  facts.file[0] = path[0];
}

}  // namespace switchyard::parallel
