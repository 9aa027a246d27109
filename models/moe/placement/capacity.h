#pragma once
// How many slots an expert may take, and which stand outside that limit. `group_tokens` are the
// real tokens of a routing group: padding makes no room. (The published systems, whose shapes are
// fixed, count it.)

#include <cstdint>

#include "core/config/run_config.pb.h"

namespace switchyard::models {

// Slots per expert and routing group:
//   fixed_slots, or factor * group_tokens * (top_k if counts_k) / num_experts, at most
//   group_tokens, rounded; at least `minimum`; then up to a multiple of `multiple_of`
// Switch, GShard, Mesh-TensorFlow, flaxformer and lingvo do not count k; DeepSpeed, Megatron,
// MegaBlocks and V-MoE do. (MegaBlocks' group is the tokens of all ranks that share the experts; a
// group here lies within one rank.)
int64_t capacity_of(const config::Moe& moe, bool training, int64_t group_tokens);

// The rows that a group of experts takes with TWO_LEVEL_BY_IMPORTANCE, as if it were one of
// num_groups experts, group_top_k of which a token chooses.
int64_t capacity_of_group(const config::Moe& moe, bool training, int64_t group_tokens);

// The slots of an expert with TWO_LEVEL_BY_IMPORTANCE, whose group has room for `rows`:
// second_level_factor stands in place of the training or evaluation factor.
int64_t capacity_within_group(const config::Moe& moe, int64_t rows);

// Slots per device and routing group with DEVICE_BUDGET: floor(train_factor * group_tokens * top_k
// / num_devices). (DeepSeek-V2, section 2.2.4.)
int64_t device_budget(const config::Moe& moe, int64_t group_tokens);

// The routing of generation, in which no expert is ever full: a decoding step has a token or two,
// whose capacity would be next to nothing, while in the whole text they would share that of many.
// NEXT_FREE then gives each token its first choice. Experts that choose keep their capacity, which
// is the choice, but take a token at least.
config::Moe without_limits(config::Moe moe);

// The policy that holds: those that draw at random or are for training alone give way in
// evaluation.
config::DropPolicy policy_of(const config::Moe& moe, bool training);

}  // namespace switchyard::models
