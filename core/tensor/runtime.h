#pragma once
// Process-wide settings of LibTorch and the allocator. Called once by main before any tensor
// exists.

#include <exception>

namespace switchyard {

// `threads` compute threads for this process, at least 1, and no others; freed memory is kept by
// the process (returning it costs page faults in every step); deterministic algorithms only.
// A tensor that does not fit into memory is an exception from here on, in place of an abort.
void configure_tensor_runtime(int threads);

// Whether the exception says that memory could not be had: std::bad_alloc, or LibTorch's.
bool is_out_of_memory(const std::exception& error);

}  // namespace switchyard
