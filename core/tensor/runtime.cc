#include "core/tensor/runtime.h"

#include <malloc.h>

#include <limits>
#include <new>
#include <string_view>

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <c10/util/Logging.h>

#include "core/base/errors.h"
#include "core/base/threads.h"

namespace switchyard {

void configure_tensor_runtime(int threads) {
  SY_CHECK(threads >= 1, "{} compute threads; expected at least 1", threads);
#ifdef __GLIBC__
  // Only the two together help: large blocks from the heap, and the heap's top never given back.
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, std::numeric_limits<int>::max());
#endif
  FLAGS_caffe2_use_fatal_for_enforce = false;
  try_threads(threads - 1);  // this one computes too
  at::set_num_threads(threads);
  if (at::get_num_interop_threads() != 1) at::set_num_interop_threads(1);
  at::globalContext().setDeterministicAlgorithms(true, /*warn_only=*/false);
  // That also fills whatever at::empty() returns with NaN, which costs a pass over all memory
  // written.
  at::globalContext().setDeterministicFillUninitializedMemory(false);
}

// LibTorch has no type of its own for this; the words are those of c10/core/impl/alloc_cpu.cpp.
bool is_out_of_memory(const std::exception& error) {
  return dynamic_cast<const std::bad_alloc*>(&error) != nullptr ||
         std::string_view(error.what()).find("DefaultCPUAllocator: can't allocate memory") !=
             std::string_view::npos;
}

}  // namespace switchyard
