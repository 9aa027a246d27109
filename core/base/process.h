#pragma once
// What a process of this program is, before it does anything.

#include <string>

namespace switchyard {

// First thing in main. Opens /dev/null where stdin, stdout or stderr is closed: else the next file
// to be opened, the lock of a run say, would take that number and get what is printed. A reader
// that is gone and a limit on the size of files become errors of the writes that meet them, no
// signals.
void prepare_process();

// "unknown" where it cannot be told.
std::string host_name();

}  // namespace switchyard
