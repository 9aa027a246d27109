#pragma once
// Routing on the host. Some rules are sequential by nature, so that they run there whatever the
// device, and some results the host must know to start what comes next:
//   the order in which slots find places       moe/placement
//   the auction of BALANCED_ASSIGNMENT         moe/rules/balanced_selection.cc
//   random draws and hashes, keyed by token    moe/router/draws.cc, moe/rules
//   how many rows each group's gate has        moe/rules/two_level.cc
// They fetch what they read by on_host(), which makes the host wait for a device. No other part of
// a layer asks a tensor for its value, but core/tensor/top_k.cc, which a device has yet to get, and
// the making of plans in parallel/exchange.cc.

#include <ATen/core/Tensor.h>

namespace switchyard::models {

// The tensor, contiguous in the host's memory; itself if it lies so. Undefined stays undefined.
inline at::Tensor on_host(const at::Tensor& x) { return x.defined() ? x.cpu().contiguous() : x; }

}  // namespace switchyard::models
