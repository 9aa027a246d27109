#include "models/inspect/traffic.h"

#include <algorithm>

#include "core/config/layers.h"
#include "models/inspect/census.h"
#include "models/inspect/cost.h"
#include "models/inspect/stages.h"

namespace switchyard::models {
namespace {

// The terms of one step on one rank of a stage, as they are added up.
class Traffic {
 public:
  Traffic(const config::RunConfig& config, const MeshShape& mesh, int stage, const Slice& held)
      : model_(config.model()),
        mesh_(mesh),
        stage_(stage),
        held_(held),
        compute_(config.runtime().compute() == config::BF16   ? 2
                 : config.runtime().compute() == config::FP32 ? 4
                                                              : 8),
        sum_(config.runtime().compute() == config::FP64 ? 8 : 4),
        is_sharded_(config.optimizer().sharded()),
        micro_batches_(std::max(1, config.train().accumulation())),
        forwards_(config.train().recompute() == config::RECOMPUTE_LAYER ? 2 : 1) {
    const SequenceLengths lengths = sequence_lengths(config);
    const double sequences =
        double{1} * config.train().global_batch() / micro_batches_ / mesh.size(Axis::kData);
    source_ = sequences * static_cast<double>(lengths.sequence);
    target_ = sequences * static_cast<double>(lengths.target);
  }

  std::vector<TrafficTerm> all() {
    if (model_.architecture() != config::LOCAL_EXPERTS) {
      add_rows_of_tensor_ranks();
      add_rows_to_experts();
      add_rows_to_stages();
    }
    add_gradients();
    return std::move(terms_);
  }

 private:
  int size(Axis axis) const { return mesh_.size(axis); }

  void add(Axis axis, const char* name, double bytes, double messages) {
    if (bytes > 0) terms_.push_back({axis, name, bytes, messages});
  }

  // The tokens that a layer of the stack sees in a micro-batch.
  double tokens_of(int layer) const {
    return target_ > 0 && layer >= model_.num_layers() ? target_ : source_;
  }
  int num_layers() const { return config::num_stacks(model_) * config::num_stack_layers(model_); }
  bool is_first() const { return held_.begin == 0; }
  bool is_last() const { return held_.end == model_.num_layers(); }
  // A layer behind those of the first stack goes with the last of them.
  bool holds(int layer) const {
    return layer < model_.num_layers() ? held_.contains(layer) : is_last();
  }
  bool is_moe(int layer) const {
    return config::is_moe_layer(model_, layer % config::num_stack_layers(model_));
  }

  // Parts of a layer that gather rows and deal out their sum.
  int dealt_parts(int layer) const {
    const bool crosses = target_ > 0 && layer >= model_.num_layers();
    const bool has_shared = is_moe(layer) && model_.moe().shared_expert().count() > 0;
    const bool is_stacked = is_moe(layer) && model_.moe().stacking() != config::NO_STACKING;
    return 1 + crosses + has_shared + is_stacked + !is_moe(layer);
  }

  // A gather moves rows in the compute type, and the sum that is its gradient in float32; the other
  // way round for a sum.
  void add_rows_of_tensor_ranks() {
    const double others = size(Axis::kTensor) - 1;
    if (others == 0) return;
    const double row = double{1} * model_.d_model() * others / size(Axis::kTensor);
    double rows = 0, messages = 0, logits = 0;
    for (int layer = 0; layer < num_layers(); ++layer) {
      if (!holds(layer)) continue;
      const double passes = dealt_parts(layer) * (1.0 + forwards_);
      rows += passes * tokens_of(layer) * row * (compute_ + sum_);
      messages += 2 * passes * others;
      if (!is_moe(layer)) continue;
      logits += forwards_ * tokens_of(layer) * model_.moe().num_experts() * sum_ * others /
                size(Axis::kTensor);
      messages += forwards_ * others;
    }
    const double predicted = target_ > 0 ? target_ : source_;
    // The embedding's rows, the head's, an encoder's output; both of multi-token prediction.
    const double first = source_ + target_, mtp = model_.has_mtp() ? 2 * source_ : 0;
    const double last = predicted + (target_ > 0 ? source_ : 0) + mtp;
    rows += (is_first() * first + is_last() * last) * row * (compute_ + sum_);
    messages += (is_first() + is_last()) * 2 * others;
    add(Axis::kTensor, "rows between tensor ranks", micro_batches_ * rows,
        micro_batches_ * messages);
    add(Axis::kTensor, "router logits", micro_batches_ * logits, 0);
    // Of each row the largest logit, the sum of exponentials and the target's logit, twice each
    // over the ranks: once to be reduced, once as the result.
    const double heads = is_last() * (model_.has_mtp() ? 2 : 1);
    add(Axis::kTensor, "sums of logits",
        micro_batches_ * heads * predicted * 3 * 2 * sum_ * others / size(Axis::kTensor),
        micro_batches_ * heads * 4 * others);
  }

  // Dispatch and combine, and the same in backward. Ranks that share experts hand on what they
  // receive, and add up what they make of it.
  void add_rows_to_experts() {
    if (!model_.has_moe()) return;
    const double others = size(Axis::kExpert) - 1, sharers = size(Axis::kExpertTensor) - 1;
    const double routers = config::routers_per_moe_layer(model_),
                 ways = (1.0 + forwards_) * routers;
    double rows = 0, messages = 0;  // each way
    for (int layer = 0; layer < num_layers(); ++layer) {
      if (!is_moe(layer) || !holds(layer)) continue;
      rows += ways * tokens_of(layer) / size(Axis::kTensor) * model_.moe().top_k();
      messages += 2 * ways + routers;  // and the counts
    }
    const double numbers = micro_batches_ * rows * model_.d_model();
    add(Axis::kExpert, "rows to experts and back",
        2 * numbers * compute_ * others / size(Axis::kExpert), micro_batches_ * messages * others);
    add(Axis::kExpertTensor, "rows between sharers of experts",
        numbers * (compute_ + sum_) * sharers, micro_batches_ * messages * sharers);
  }

  // Rows to the next stage, their gradients to the one before.
  void add_rows_to_stages() {
    const double ways = !is_first() + !is_last();
    add(Axis::kPipeline, "rows between stages",
        micro_batches_ * ways * source_ / size(Axis::kTensor) * model_.d_model() * compute_,
        micro_batches_ * ways);
  }

  // Each number is sent to the rank that adds it up, and its sum to all. A sharded optimizer keeps
  // sums where they are made, so that further axes see a share, and sends the new values to all.
  void add_gradients() {
    for (const auto& [axes, count] : summed_gradients(model_, mesh_, stage_, held_)) {
      auto held = static_cast<double>(count);
      for (const Axis axis : kAllAxes) {
        const double others = size(axis) - 1;
        if (others == 0 || !axes.contains(axis)) continue;
        const bool deals = is_sharded_ && (axis == Axis::kData || axis == Axis::kExpertData);
        add(axis, axes.contains(Axis::kExpertData) ? "gradients of experts" : "gradients",
            held * (sum_ + (deals ? compute_ : sum_)) * others / size(axis), 2 * others);
        if (deals) held /= size(axis);
      }
    }
  }

  const config::Model& model_;
  const MeshShape& mesh_;
  int stage_;
  Slice held_;
  double compute_, sum_;  // bytes of a number in the compute type, and in sums
  bool is_sharded_;       // the optimizer
  double micro_batches_, forwards_;
  double source_, target_;  // tokens of a rank in a micro-batch; target: 0 but in encoder-decoders
  std::vector<TrafficTerm> terms_;
};

double bytes_of(const std::vector<TrafficTerm>& terms) {
  double sum = 0;
  for (const TrafficTerm& term : terms) sum += term.bytes;
  return sum;
}

}  // namespace

std::vector<TrafficTerm> traffic_per_step(const config::RunConfig& config, const MeshShape& mesh) {
  std::vector<TrafficTerm> most;
  for (int stage = 0; const Slice& held : stage_layers(config, mesh.size(Axis::kPipeline))) {
    auto terms = Traffic(config, mesh, stage++, held).all();
    if (bytes_of(terms) > bytes_of(most)) most = std::move(terms);
  }
  return most;
}

double share_between_nodes(const MeshShape& mesh, Axis axis, int node_ranks) {
  const int group = mesh.group_along(axis, 0);
  int outside = 0;
  for (int rank = 1; rank < mesh.ranks(); ++rank)
    outside += mesh.group_along(axis, rank) == group && rank / node_ranks > 0;
  return mesh.size(axis) == 1 ? 0 : double{1} * outside / (mesh.size(axis) - 1);
}

}  // namespace switchyard::models
