#pragma once
// Mistakes that are made on purpose around the product's step, as `selfcheck --inject NAME` does,
// so that the check is seen to find them. On one rank each of them changes nothing.

#include <span>
#include <string>
#include <string_view>

#include "core/base/layout.h"
#include "trainer/training.h"

namespace switchyard::trainer {

struct Mistake {
  std::string_view name, what;
  Axis axis;  // without ranks along it nothing goes wrong
  // Each is **collective** over the mesh; null: nothing is done there.
  void (*begin)(Training&) = nullptr;                   // weights are there, no batch is read
  void (*computed)(Training&, StepOutcome&) = nullptr;  // before the update
};

std::span<const Mistake> all_mistakes();

// Null for an empty name; ConfigError for an unknown one, with all that there are.
const Mistake* mistake_named(const std::string& name);

}  // namespace switchyard::trainer
