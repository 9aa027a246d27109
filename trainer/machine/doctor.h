#pragma once
// `switchyard doctor`: what works on this machine for a run, and what to do about the rest.

#include <string>
#include <vector>

#include "trainer/machine/gemm_rates.h"
#include "trainer/machine/machine.h"

namespace switchyard::trainer {

enum class Verdict { kOk, kWarning, kFailure };  // a failure: no run can work

struct Check {
  std::string name;
  Verdict verdict = Verdict::kOk;
  std::string found = {};
  std::string advice = {};  // what to do; empty when all is well
};

// Judges the facts: the same checks whatever the facts are, in a fixed order.
std::vector<Check> judge(const Machine& machine, const ComputeFacts& compute);

// Gathers the facts and judges them: about two seconds. Requires that this process has not
// initialised MPI.
std::vector<Check> run_doctor(const std::string& output_folder);

// The worst of all verdicts. Requires: a check.
Verdict overall(const std::vector<Check>& checks);

// One line per check with a line of advice below where there is one; the last line sums up.
std::string render_text(const std::vector<Check>& checks);
// {"verdict": "ok", "checks": [{"name", "verdict", "found", "advice"}, ...]}
std::string render_json(const std::vector<Check>& checks);

}  // namespace switchyard::trainer
