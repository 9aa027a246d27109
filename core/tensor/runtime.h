#pragma once
// Process-wide settings of LibTorch and the allocator. Called once by main before any tensor
// exists.

namespace switchyard {

// `threads` compute threads for this process, at least 1, and no others; freed memory is kept by
// the process (returning it costs page faults in every step); deterministic algorithms only.
void configure_tensor_runtime(int threads);

}  // namespace switchyard
