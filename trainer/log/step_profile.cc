#include "trainer/log/step_profile.h"

#include <iterator>
#include <utility>

#include <ATen/SequenceNumber.h>
#include <ATen/record_function.h>

#include "core/base/errors.h"

namespace switchyard::trainer {
namespace {

constexpr std::string_view kPrefix = "sy::";

// LibTorch's hooks are plain functions, so the profile that they report to is found through its
// thread.
thread_local StepProfile* active = nullptr;

std::unique_ptr<at::ObserverContext> on_enter(const at::RecordFunction& function) {
  const bool is_backward = function.scope() == at::RecordScope::BACKWARD_FUNCTION;
  if (active) active->enter(function.name(), is_backward ? function.seqNr() : -1);
  return nullptr;
}

void on_leave(const at::RecordFunction&, at::ObserverContext*) {
  if (active) active->leave();
}

}  // namespace

StepProfile::StepProfile() {
  SY_CHECK(active == nullptr, "two profiles on one thread");
  active = this;
  callback_ = at::addThreadLocalCallback(
      at::RecordFunctionCallback(on_enter, on_leave)
          .scopes({at::RecordScope::USER_SCOPE, at::RecordScope::BACKWARD_FUNCTION}));
}

StepProfile::~StepProfile() {
  at::removeCallback(callback_);
  active = nullptr;
}

std::string StepProfile::part_of(std::string_view name, int64_t node) const {
  if (name.starts_with(kPrefix)) return std::string(name.substr(kPrefix.size()));
  if (node < 0) return "";
  const auto after = made_in_.upper_bound(static_cast<uint64_t>(node));
  return after == made_in_.begin() ? "" : std::prev(after)->second;
}

std::string StepProfile::current() const {
  for (auto frame = stack_.rbegin(); frame != stack_.rend(); ++frame) {
    if (!frame->part.empty()) return frame->part;
  }
  return "";
}

void StepProfile::enter(std::string_view name, int64_t node) {
  stack_.push_back({part_of(name, node), Clock::now()});
  if (!stack_.back().part.empty()) made_in_[at::sequence_number::peek()] = stack_.back().part;
}

void StepProfile::leave() {
  const Frame frame = std::move(stack_.back());
  stack_.pop_back();
  double counted = frame.nested;
  if (!frame.part.empty()) {
    counted = std::chrono::duration<double>(Clock::now() - frame.start).count();
    seconds_[frame.part] += counted - frame.nested;
    made_in_[at::sequence_number::peek()] = current();
  }
  if (!stack_.empty()) stack_.back().nested += counted;
}

}  // namespace switchyard::trainer
