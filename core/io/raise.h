#pragma once
// Lets a parser that serves several file kinds throw the error kind of its caller: a token file's
// DataError, a checkpoint's CheckpointError. Pass raise<DataError>.

#include <string>

namespace switchyard {

// Never returns. (A function pointer type cannot carry [[noreturn]].)
using RaiseError = void (*)(const std::string& message);

template <typename Kind>
[[noreturn]] void raise(const std::string& message) {
  throw Kind(message);
}

}  // namespace switchyard
