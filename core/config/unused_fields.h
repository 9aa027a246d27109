#pragma once
// Fields that nothing reads in some configs. Such a field is left unset by the defaults and refused
// when it is set, so that no one believes that it did something.

#include <string>
#include <vector>

#include "core/config/run_config.pb.h"

namespace switchyard::config {

// Unsets what nothing reads in `config`, whose defaults are filled in, but for what `given`, the
// same before the defaults, sets.
void clear_unused_fields(const RunConfig& given, RunConfig& config);

// A line for each field that is set and that nothing reads, in the words of a broken rule.
std::vector<std::string> unused_fields(const RunConfig& config);

}  // namespace switchyard::config
