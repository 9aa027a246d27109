#pragma once
// Work that succeeds on all ranks or fails on all ranks with the same error, so that nobody goes on
// alone into the next collective. The group is one for control, as Mesh::control() is.

#include <functional>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "parallel/communicator.h"

namespace switchyard::parallel {

// **Collective.** Runs `work`, which must contain no collective, and returns what it returned on
// every rank, in rank order. If it throws on any rank, all ranks throw an error of the kind of the
// lowest one that failed; the message names each failed rank.
std::vector<std::string> agree(Communicator& group, const char* what,
                               const std::function<std::string()>& work);

// **Collective.** Runs work that returns nothing, under the rules of agree().
void do_on_all(Communicator& group, const char* what, const std::function<void()>& work);

// **Collective.** Returns what `work` makes on this rank, under the rules of agree().
template <typename Work>
std::invoke_result_t<Work> make_on_all(Communicator& group, const char* what, Work work) {
  std::optional<std::invoke_result_t<Work>> made;
  do_on_all(group, what, [&] { made.emplace(work()); });
  return std::move(*made);
}

}  // namespace switchyard::parallel
