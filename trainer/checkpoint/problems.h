#pragma once
// Gathers what is wrong with a checkpoint, to say it all at once.

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/base/errors.h"

namespace switchyard::trainer {

class Problems {
 public:
  // `where` begins the message.
  explicit Problems(std::string where) : where_(std::move(where)) {}

  // One that was added before counts once.
  template <typename... Args>
  void add(fmt::format_string<Args...> format, Args&&... args) {
    std::string problem = fmt::format(format, std::forward<Args>(args)...);
    if (std::ranges::find(problems_, problem) == problems_.end() && ++count_ <= kMostShown)
      problems_.push_back(std::move(problem));
  }

  void throw_if_any() const {
    if (problems_.empty()) return;
    const size_t hidden = count_ - problems_.size();
    throw CheckpointError(fmt::format("{}:\n  {}{}", where_, fmt::join(problems_, "\n  "),
                                      hidden ? fmt::format("\n  and {} more", hidden) : ""));
  }

 private:
  static constexpr size_t kMostShown = 100;
  std::string where_;
  std::vector<std::string> problems_;
  size_t count_ = 0;
};

}  // namespace switchyard::trainer
