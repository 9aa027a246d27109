#include "trainer/selfcheck/trace.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "core/base/errors.h"
#include "core/tensor/aten.h"

namespace switchyard::trainer {
namespace {

constexpr double kLeastShare = 1e-3;

double largest_of(const at::Tensor& tensor) {
  return tensor.numel() == 0 ? 0 : tensor.abs().max().item<double>();
}

// Kinds of state have sizes of their own.
std::string kind_of(Quantity quantity, const std::string& name) {
  return quantity == Quantity::kState ? name.substr(0, name.find('/')) : "";
}

double relative(double difference, double to) { return difference == 0 ? 0 : difference / to; }

// NaN is the greater.
double greater(double a, double b) { return b <= a ? a : b; }

void compare_routing(const Reading& reading, const Trace::Entry& entry, Difference& difference) {
  int64_t differing = 0;
  for (const StoredBox& held : reading.boxes) {
    const at::Tensor expected =
        entry.value.narrow(0, held.box.offset[0] - entry.origin, held.box.extent[0]);
    differing += held.memory.ne(expected).sum().item<int64_t>();
    difference.decisions += expected.numel();
  }
  difference.differing += differing;
  difference.element.take(static_cast<double>(differing), reading.name);
}

nlohmann::json to_json(const Worst& worst) { return {worst.error, worst.name}; }
Worst worst_from(const nlohmann::json& json) { return {json.at(0), json.at(1)}; }

}  // namespace

void Trace::record(const Reading& reading) {
  Entry entry;
  std::vector<int64_t> shape = reading.shape;
  if (shape.empty()) {
    shape = reading.boxes.front().box.extent;
    shape[0] = 0;
    for (const StoredBox& held : reading.boxes) shape[0] += held.box.extent[0];
    entry.origin = reading.boxes.front().box.offset[0];
  }
  entry.value = at::zeros(shape, reading.boxes.front().memory.options());
  for (const StoredBox& held : reading.boxes) {
    Box box = held.box;
    if (!box.offset.empty()) box.offset[0] -= entry.origin;
    view_of(entry.value, box).copy_(held.memory);
  }
  if (reading.quantity != Quantity::kRouting) {
    entry.largest = largest_of(entry.value);
    if (!std::isfinite(entry.largest))
      throw NumericsError(
          fmt::format("selfcheck: on one rank {} of step {} is not finite, and nothing can be "
                      "compared with it",
                      reading.name, reading.step));
    entry.norm = entry.value.norm().item<double>();
  }
  entries_[{reading.quantity, reading.step, reading.name}] = std::move(entry);
}

void Trace::finish() {
  std::map<Key, std::pair<double, double>> greatest;  // by quantity, step and kind
  const auto greatest_of = [&](const Key& key) -> auto& {
    const auto& [quantity, step, name] = key;
    return greatest[{quantity, step, kind_of(quantity, name)}];
  };
  for (const auto& [key, entry] : entries_) {
    auto& [largest, norm] = greatest_of(key);
    largest = std::max(largest, entry.largest);
    norm = std::max(norm, entry.norm);
  }
  for (auto& [key, entry] : entries_) {
    const auto& [largest, norm] = greatest_of(key);
    entry.largest = std::max(entry.largest, kLeastShare * largest);
    entry.norm = std::max(entry.norm, kLeastShare * norm);
  }
}

const Trace::Entry& Trace::at(const Reading& reading) const {
  const auto found = entries_.find({reading.quantity, reading.step, reading.name});
  SY_CHECK(found != entries_.end(), "{} of step {} is not in the run on one rank", reading.name,
           reading.step);
  return found->second;
}

void Worst::take(double error_taken, const std::string& name_taken) {
  if (std::isnan(error_taken)) error_taken = std::numeric_limits<double>::max();
  if (error_taken <= error) return;
  error = std::min(error_taken, std::numeric_limits<double>::max());
  name = name_taken;
}

void compare(const Reading& reading, const Trace& trace, Differences& differences) {
  const Trace::Entry& entry = trace.at(reading);
  Difference& difference = differences[{reading.quantity, reading.step}];
  if (reading.quantity == Quantity::kRouting) return compare_routing(reading, entry, difference);
  double largest = 0, squares = 0;
  for (const StoredBox& held : reading.boxes) {
    const at::Tensor expected = view_of(entry.value, held.box).to(at::kDouble);
    const at::Tensor error = held.memory.to(at::kDouble) - expected;
    largest = greater(largest, largest_of(error));
    squares += error.square().sum().item<double>();
  }
  difference.element.take(relative(largest, entry.largest), reading.name);
  difference.norm.take(relative(std::sqrt(squares), entry.norm), reading.name);
}

Differences merge(const Differences& own, parallel::Communicator& world) {
  nlohmann::json mine = nlohmann::json::array();
  for (const auto& [key, d] : own)
    mine.push_back({static_cast<int>(key.first), key.second, to_json(d.element), to_json(d.norm),
                    d.differing, d.decisions});
  Differences merged;
  for (const std::string& text : world.all_gather_text(mine.dump(), "differences")) {
    for (const nlohmann::json& item : nlohmann::json::parse(text)) {
      Difference& d = merged[{static_cast<Quantity>(item.at(0).get<int>()), item.at(1)}];
      for (const auto& [worst, index] : {std::pair(&d.element, 2), std::pair(&d.norm, 3)}) {
        const Worst theirs = worst_from(item.at(index));
        worst->take(theirs.error, theirs.name);
      }
      d.differing += item.at(4).get<int64_t>();
      d.decisions += item.at(5).get<int64_t>();
    }
  }
  return merged;
}

}  // namespace switchyard::trainer
