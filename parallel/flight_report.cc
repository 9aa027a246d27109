#include "parallel/flight_report.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <climits>
#include <csignal>
#include <ctime>

#include "core/base/process.h"
#include "parallel/fixed_text.h"

namespace switchyard::parallel {
namespace {

constexpr int64_t kNotAgainFor = 5'000'000'000;  // ns
constexpr size_t kLineBytes = 640;

// A signal handler can reach nothing but what has static storage.
struct Facts {
  std::atomic<RankBoard* const*> boards = nullptr;
  std::atomic<size_t> num_boards = 0;
  std::array<char, PATH_MAX> folder{};
  ShortText host{};
};
Facts facts;

// The text as it may stand in JSON between quotes.
ShortText plain(ShortText text) {
  for (char& c : text) {
    if (c != '\0' && (c < ' ' || c > '~' || c == '"' || c == '\\')) c = '_';
  }
  return text;
}

template <typename... Values>
void write_line(int file, const Values&... values) {
  FixedText<kLineBytes> line;
  line.add(values...);
  [[maybe_unused]] ssize_t ignored = ::write(file, line.view().data(), line.view().size());
}

void write_rank(int file, const RankBoard& board, size_t rank, int64_t now) {
  const Whereabouts whereabouts = read(board.whereabouts);
  write_line(
      file,
      FMT_STRING("{{\"version\":1,\"rank\":{},\"ranks\":{},\"host\":\"{}\",\"process\":{},"
                 "\"is_gone\":{},\"written\":{},\"phase\":\"{}\",\"step\":{},\"micro_batch\":{},"
                 "\"layer\":{},\"working_on\":\"{}\"}}\n"),
      rank, facts.num_boards.load(), plain(facts.host).data(), board.process.load(), is_gone(board),
      std::time(nullptr), name_of(whereabouts.phase), whereabouts.step, whereabouts.micro_batch,
      whereabouts.layer, plain(read(board.working_on)).data());
  for (const GroupBoard& group : board.groups) {
    if (group.size.load() == 0) continue;
    write_line(file, FMT_STRING("{{\"group\":\"{}\",\"size\":{},\"started\":{}}}\n"),
               plain(read(group.name)).data(), group.size.load(),
               group.started.load() & kSequenceMask);
  }
  const uint64_t last = board.num_recorded.load();
  const uint64_t first = last > RankBoard::kRecords ? last - RankBoard::kRecords + 1 : 1;
  Record record;
  for (uint64_t id = first; id <= last; ++id) {
    if (!read_record(board, id, record)) continue;
    const int64_t end = record.end > 0 ? record.end : now;
    write_line(
        file,
        FMT_STRING("{{\"operation\":\"{}\",\"sequence\":{},\"what\":\"{}\",\"of\":\"{}\","
                   "\"bytes_out\":{},\"bytes_in\":{},\"root\":{},\"state\":\"{}\",\"phase\":\"{}\","
                   "\"step\":{},\"micro_batch\":{},\"layer\":{},\"us_ago\":{},\"us\":{}}}\n"),
        name_of(record.kind), record.sequence, plain(record.what).data(),
        plain(record.group).data(), record.bytes_out, record.bytes_in, record.root,
        name_of(record.state), name_of(record.whereabouts.phase), record.whereabouts.step,
        record.whereabouts.micro_batch, record.whereabouts.layer, (now - record.start) / 1000,
        (end - record.start) / 1000);
  }
}

// Whether it falls to the caller to write for this board.
bool claim(RankBoard& board, int64_t now) {
  int64_t before = board.filed.load();
  if (before != 0 && now - before < kNotAgainFor) return false;
  return board.filed.compare_exchange_strong(before, now);
}

void make_folder() {
  FixedText<PATH_MAX> parent;
  const std::string_view path(facts.folder.data());
  parent.add(FMT_STRING("{}"), path.substr(0, path.rfind('/')));
  ::mkdir(parent.c_str(), 0755);
  ::mkdir(facts.folder.data(), 0755);
}

void write_ranks(int64_t now) {
  for (size_t rank = 0; rank < facts.num_boards; ++rank) {
    RankBoard* board = facts.boards[rank];
    if (board == nullptr || !claim(*board, now)) continue;
    FixedText<PATH_MAX> path;
    path.add(FMT_STRING("{}/rank_{}.jsonl"), std::string_view(facts.folder.data()), rank);
    const int file =
        ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (file < 0) continue;
    write_rank(file, *board, rank, now);
    ::close(file);
  }
}

extern "C" void on_flight_signal(int) { write_flight_records(FlightReport::kBegin); }

}  // namespace

void install_flight_report() {
  struct sigaction action {};
  action.sa_handler = on_flight_signal;
  ::sigfillset(&action.sa_mask);
  action.sa_flags = SA_RESTART;
  ::sigaction(SIGUSR2, &action, nullptr);
}

void set_flight_boards(std::span<RankBoard* const> boards) {
  facts.num_boards = 0;  // no handler may find the number of other boards
  facts.boards = boards.data();
  facts.num_boards = boards.size();
}

void set_flight_folder(const std::string& path) {
  constexpr size_t kRoomForName = 64;
  facts.folder[0] = '\0';  // no handler may find half a path
  if (path.empty() || path.size() + kRoomForName >= facts.folder.size()) return;
  facts.host = cut(host_name());
  path.copy(facts.folder.data() + 1, path.size() - 1, 1);
  facts.folder[path.size()] = '\0';
  std::atomic_signal_fence(std::memory_order_release);
  facts.folder[0] = path[0];
}

void write_flight_records(FlightReport report) {
  if (facts.folder[0] == '\0' || facts.num_boards == 0) return;
  const int error_before = errno;  // which a handler must leave alone
  if (report == FlightReport::kBegin) make_folder();
  if (::access(facts.folder.data(), F_OK) == 0) write_ranks(now_ns());
  errno = error_before;
}

}  // namespace switchyard::parallel
