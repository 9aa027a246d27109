#pragma once
// `switchyard inspect RUN --hang`: which rank a job hung on, from the flight records of all.

#include <string>

#include "trainer/log/hang_records.h"

namespace switchyard::trainer {

// Names the first rank out of step and what it was doing, who waited for it and where, ranks that
// called different things, ranks without a record; then what each rank was at.
std::string hang_report(const HangRecords& records);

}  // namespace switchyard::trainer
