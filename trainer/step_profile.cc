#include "trainer/step_profile.h"

#include <cstring>
#include <utility>

#include <ATen/record_function.h>

#include "core/base/errors.h"

namespace switchyard::trainer {
namespace {

// LibTorch's hooks are plain functions, so the profile that they report to is found through its
// thread.
thread_local StepProfile* active = nullptr;

std::unique_ptr<at::ObserverContext> on_enter(const at::RecordFunction& function) {
  if (active) active->enter(function.name());
  return nullptr;
}

void on_leave(const at::RecordFunction&, at::ObserverContext*) {
  if (active) active->leave();
}

}  // namespace

const char* part_of_step(const char* name) {
  // Our own scopes first: they enclose ATen calls of the same kinds. Then nodes of the backward
  // pass, by their type.
  static constexpr std::pair<const char*, const char*> kParts[] = {
      {"sy::data", "data"},
      {"sy::attention", "attention"},
      {"sy::router", "router"},
      {"sy::assign", "router"},
      {"sy::permute", "permute"},
      {"sy::experts", "experts"},
      {"sy::exchange", "exchange"},
      {"sy::loss", "loss"},
      {"sy::optimizer", "optimizer"},
      {"sy::reduce", "wait"},
      {"::Dispatch>", "permute"},
      {"::Combine>", "permute"},
      {"::FfnExperts>", "experts"},
      {"::VocabularyLoss>", "loss"},
      {"::RmsNorm>", "norm and residual"},
      {"::Rope>", "attention"},
      {"::Linear>", "attention"},
      {"ScaledDotProduct", "attention"},
      {"::Embedding>", "embedding"},
      {"::UseParameter>", "router"},
      {"::AttachLoss>", "router"},
      {"evaluate_function: Mm", "router"},
      {"evaluate_function: Softmax", "router"},
      {"evaluate_function: Gather", "router"},
      {"evaluate_function: Logsumexp", "router"},
      {"evaluate_function: ToCopy", "router"},
      {"evaluate_function: Slice", "attention"},
      {"evaluate_function: Split", "attention"},
      {"evaluate_function: Transpose", "attention"},
      {"evaluate_function: Clone", "attention"},
      {"evaluate_function: Expand", "attention"},
  };
  for (const auto& [pattern, part] : kParts) {
    if (std::strstr(name, pattern)) return part;
  }
  return nullptr;
}

StepProfile::StepProfile() {
  SY_CHECK(active == nullptr, "two profiles on one thread");
  active = this;
  callback_ = at::addThreadLocalCallback(at::RecordFunctionCallback(on_enter, on_leave));
}

StepProfile::~StepProfile() {
  at::removeCallback(callback_);
  active = nullptr;
}

void StepProfile::enter(const char* name) { stack_.push_back({part_of_step(name), Clock::now()}); }

void StepProfile::leave() {
  const Frame frame = stack_.back();
  stack_.pop_back();
  double counted = frame.nested;
  if (frame.part) {
    counted = std::chrono::duration<double>(Clock::now() - frame.start).count();
    seconds_[frame.part] += counted - frame.nested;
  }
  if (!stack_.empty()) stack_.back().nested += counted;
}

std::map<std::string, double> StepProfile::seconds() const { return seconds_; }

}  // namespace switchyard::trainer
