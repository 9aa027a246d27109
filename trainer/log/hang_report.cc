#include "trainer/log/hang_report.h"

#include <algorithm>
#include <set>
#include <tuple>

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

namespace switchyard::trainer {
namespace {

// One rank waits in an operation that another has not begun.
struct Edge {
  const HangRank* waiter;
  const HangOperation* in;
  const HangRank* missed;
};

// Whether the member has begun the operation with this number; true where it is no member.
bool has_begun(const HangRank& rank, const std::string& group, int64_t sequence) {
  const auto member = rank.groups.find(group);
  return member == rank.groups.end() || member->second.started >= sequence;
}

std::vector<Edge> find_edges(const std::vector<HangRank>& ranks) {
  std::vector<Edge> edges;
  for (const HangRank& waiter : ranks) {
    const HangOperation* in = waiter.awaited();
    if (in == nullptr || waiter.is_gone) continue;
    for (const HangRank& other : ranks)
      if (!has_begun(other, in->group, in->sequence)) edges.push_back({&waiter, in, &other});
  }
  std::ranges::stable_sort(edges, std::greater(), [](const Edge& e) { return e.in->seconds_ago; });
  return edges;
}

std::string who(const HangRank& rank) {
  return fmt::format("rank {} (host {}, process {})", rank.rank, rank.host, rank.process);
}

std::string with_whereabouts(std::string text, const std::string& whereabouts) {
  return whereabouts.empty() ? text : text + "; " + whereabouts;
}

std::string activity_of(const HangRank& rank) {
  std::string text = rank.is_gone ? "dead; was " : "";
  if (const HangOperation* in = rank.awaited()) {
    text += fmt::format("in {}, {} B out, {} B in, for {:.1f} s", in->name(), in->bytes_out,
                        in->bytes_in, in->seconds_ago);
  } else if (rank.operations.empty()) {
    text += "outside any collective, has begun none yet";
  } else {
    const HangOperation& last = rank.operations.back();
    text += fmt::format("outside any collective, the last was {}, {:.1f} s before", last.name(),
                        last.seconds_ago - last.seconds);
  }
  if (!rank.working_on.empty()) text += "; at work: " + rank.working_on;
  return with_whereabouts(text, rank.whereabouts);
}

// Ranks that others miss and that miss nobody themselves, those missed for longest first.
std::vector<const HangRank*> find_culprits(const std::vector<Edge>& edges) {
  std::set<const HangRank*> waiters;
  for (const Edge& edge : edges) waiters.insert(edge.waiter);
  std::vector<const HangRank*> culprits;
  for (const Edge& edge : edges) {
    const bool is_known = std::ranges::find(culprits, edge.missed) != culprits.end();
    if (!waiters.contains(edge.missed) && !is_known) culprits.push_back(edge.missed);
  }
  return culprits;
}

// The oldest operation that two ranks call by one number and not alike; empty: none.
std::string describe_difference(const std::vector<HangRank>& ranks) {
  std::map<std::pair<std::string, int64_t>, std::pair<const HangRank*, const HangOperation*>> first;
  double oldest = -1;
  std::string text;
  for (const HangRank& rank : ranks) {
    for (const HangOperation& operation : rank.operations) {
      const auto [entry, is_new] =
          first.try_emplace({operation.group, operation.sequence}, std::pair(&rank, &operation));
      const auto& [other, theirs] = entry->second;
      const bool counts_bytes = operation.kind != "all_to_all_v";
      const bool is_same = operation.kind == theirs->kind && operation.root == theirs->root &&
                           operation.what == theirs->what &&
                           (!counts_bytes || operation.bytes_out == theirs->bytes_out);
      if (is_same || operation.seconds_ago <= oldest) continue;
      oldest = operation.seconds_ago;
      text = fmt::format("{} called {}, {} B\n  {} called {}, {} B\n", who(*other), theirs->name(),
                         theirs->bytes_out, who(rank), operation.name(), operation.bytes_out);
    }
  }
  return text;
}

std::string describe_waits(const std::vector<Edge>& edges, const HangRank* missed) {
  std::string text;
  for (const Edge& edge : edges) {
    if (missed != nullptr && edge.missed != missed) continue;
    text +=
        with_whereabouts(fmt::format("  {} waited {:.1f} s for rank {} in {}", who(*edge.waiter),
                                     edge.in->seconds_ago, edge.missed->rank, edge.in->name()),
                         edge.in->whereabouts) +
        "\n";
  }
  return text;
}

// Who waited in a group some of whose members left no record; all others have begun the operation.
std::string describe_waits_for_unknown(const std::vector<HangRank>& ranks) {
  std::string text;
  for (const HangRank& waiter : ranks) {
    const HangOperation* in = waiter.awaited();
    const auto group = in == nullptr ? waiter.groups.end() : waiter.groups.find(in->group);
    if (group == waiter.groups.end()) continue;
    const int64_t known = std::ranges::count_if(
        ranks, [&](const HangRank& rank) { return rank.groups.contains(in->group); });
    const int64_t unknown = group->second.size - known;
    if (unknown > 0)
      text += fmt::format("  {} waited {:.1f} s in {}; {} of its {} members left no record\n",
                          who(waiter), in->seconds_ago, in->name(), unknown, group->second.size);
  }
  return text;
}

std::vector<int64_t> without_record(const std::vector<HangRank>& ranks) {
  std::vector<int64_t> missing;
  auto next = ranks.begin();
  for (int64_t rank = 0; rank < ranks.front().ranks; ++rank) {
    if (next != ranks.end() && next->rank == rank)
      ++next;
    else
      missing.push_back(rank);
  }
  return missing;
}

// What the records say of the cause.
std::string diagnosis(const std::vector<HangRank>& ranks) {
  if (const std::string difference = describe_difference(ranks); !difference.empty())
    return "ranks were in different operations under one number:\n  " + difference;
  const std::vector<Edge> edges = find_edges(ranks);
  const auto culprits = find_culprits(edges);
  if (!culprits.empty()) {
    return fmt::format("first out of step: {}: {}\n", who(*culprits[0]),
                       activity_of(*culprits[0])) +
           describe_waits(edges, culprits[0]);
  }
  if (!edges.empty())
    return "ranks wait for one another, in collectives of different groups:\n" +
           describe_waits(edges, nullptr);
  if (const std::string waits = describe_waits_for_unknown(ranks); !waits.empty())
    return fmt::format("out of step: a rank without a record, or its machine (rank {})\n{}",
                       fmt::join(without_record(ranks), ", rank "), waits);
  return "no rank waited for one that was behind\n";
}

}  // namespace

std::string hang_report(const HangRecords& records) {
  const std::vector<HangRank>& ranks = records.ranks;
  std::string text = fmt::format("{}: {} of {} ranks, {:%Y-%m-%d %H:%M:%S} UTC\n", records.folder,
                                 ranks.size(), ranks.front().ranks,
                                 fmt::gmtime(static_cast<std::time_t>(ranks.front().written)));
  text += diagnosis(ranks) + "all ranks:\n";
  for (const HangRank& rank : ranks)
    text += fmt::format("  {}: {}\n", who(rank), activity_of(rank));
  for (const int64_t rank : without_record(ranks))
    text += fmt::format("  rank {}: no record\n", rank);
  return text;
}

}  // namespace switchyard::trainer
