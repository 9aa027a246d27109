#pragma once
// A page about a run: its curves, drawn from the numbers that the run left behind.

#include <string>

namespace switchyard::trainer {

// HTML that needs nothing else: losses, learning rate, speed, and of the experts load, balance and
// drops, as far as metrics.jsonl and timing.jsonl in `folder` have them. A last line that is still
// being written is left out. ConfigError if the folder holds no metrics, DataError that names the
// first line that is not as a run writes it.
std::string report_page(const std::string& folder);

// Writes the page to <folder>/report.html, atomically, and returns that path.
std::string write_report(const std::string& folder);

}  // namespace switchyard::trainer
