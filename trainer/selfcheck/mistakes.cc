#include "trainer/selfcheck/mistakes.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "core/base/errors.h"
#include "core/tensor/aten.h"
#include "parallel/gradients.h"
#include "parallel/sharding.h"

namespace switchyard::trainer {
namespace {

Place place_on(const Training& training, Axis axis) {
  return training.instance.mesh.layout()[axis];
}

// Whether this rank is the one that errs where one of several does.
bool is_last(const Training& training, Axis axis) {
  const Place place = place_on(training, axis);
  return place.size > 1 && place.index == place.size - 1;
}

void scale_experts(Training& training, StepOutcome&) {
  for (ParameterGroup& group : training.instance.parameters.trained_groups())
    if (group.cut.contains(Axis::kExpert)) group.grad.mul_(place_on(training, Axis::kExpert).size);
}

// The norm with each dense gradient as often as there are data ranks that hold it.
void count_copies(Training& training, StepOutcome& outcome) {
  const double copies = place_on(training, Axis::kData).size;
  std::vector<ParameterGroup> counted;
  for (const ParameterGroup& group : training.instance.parameters.trained_groups()) {
    counted.push_back(group);
    if (group.summed.contains(Axis::kData)) counted.back().grad = group.grad * std::sqrt(copies);
  }
  outcome.gradient_norm = parallel::gradient_norm(counted, training.instance.mesh);
}

void lose_share(Training& training, Axis axis) {
  if (!is_last(training, axis)) return;
  training.instance.parameters.on_gradient_ready([axis](Parameter& parameter) {
    if (parameter.summed.contains(axis)) parameter.grad.zero_();
  });
}

void keep_weights(Training& training, StepOutcome& outcome) {
  if (is_last(training, Axis::kData)) outcome.learning_rate = 0;
}

void hold_neighbours_share(Training& training, Axis axis) {
  parallel::Communicator& group = training.instance.mesh.along(axis);
  for (Parameter& parameter : training.instance.parameters.parameters()) {
    if (!parameter.cut_axes().contains(axis)) continue;
    std::vector<int64_t> shape = parameter.local_shape();
    shape.insert(shape.begin(), group.size());
    const at::Tensor own = parallel::gather_owned(
        parameter, parameter.owned, {0, parameter.local_count()}, training.instance.mesh);
    const at::Tensor all = at::empty(shape, own.options());
    group.all_gather(own.const_data_ptr(), all.mutable_data_ptr(),
                     static_cast<int64_t>(own.nbytes()), "shares of all");
    parameter.store(all[(group.rank() + 1) % group.size()]);
  }
}

void divide_by_own_tokens(Training& training, StepOutcome& outcome) {
  const double ranks = place_on(training, Axis::kData).size;
  for (ParameterGroup& group : training.instance.parameters.trained_groups())
    group.grad.mul_(ranks);
  outcome.loss *= ranks;
  outcome.gradient_norm *= ranks;
}

// Batches whose first row has lost its first target.
class WithoutOneTarget final : public BatchMaker {
 public:
  explicit WithoutOneTarget(std::shared_ptr<const BatchMaker> maker)
      : BatchMaker(*maker), maker_(std::move(maker)) {}
  void fill(Batch& batch, int64_t row, const TokenSource& source, int64_t first,
            int64_t sequence) const override {
    maker_->fill(batch, row, source, first, sequence);
    batch.targets[0] = kNoTarget;
  }

 private:
  std::shared_ptr<const BatchMaker> maker_;
};

void lose_target(Training& training) {
  if (!is_last(training, Axis::kData)) return;
  training.data.maker = std::make_shared<WithoutOneTarget>(training.data.maker);
}

void draw_otherwise(Training& training) {
  if (is_last(training, Axis::kData)) training.instance.parameters.initialize(/*seed=*/12345);
}

void scale_early_stages(Training& training, StepOutcome&) {
  if (training.instance.mesh.pipeline().is_last()) return;
  for (ParameterGroup& group : training.instance.parameters.trained_groups())
    group.grad.mul_(place_on(training, Axis::kPipeline).size);
}

constexpr Mistake kMistakes[] = {
    {.name = "wrong_expert_scale",
     .what = "the gradients of experts are multiplied by the expert degree",
     .axis = Axis::kExpert,
     .computed = scale_experts},
    {.name = "wrong_shard",
     .what = "each rank holds the experts of its neighbour in the expert group",
     .axis = Axis::kExpert,
     .begin = [](Training& training) { hold_neighbours_share(training, Axis::kExpert); }},
    {.name = "wrong_expert_slice",
     .what = "each rank holds the slice of its experts that its neighbour should hold",
     .axis = Axis::kExpertTensor,
     .begin = [](Training& training) { hold_neighbours_share(training, Axis::kExpertTensor); }},
    {.name = "wrong_heads",
     .what = "each rank holds the heads, and other shares, of its neighbour in the tensor group",
     .axis = Axis::kTensor,
     .begin = [](Training& training) { hold_neighbours_share(training, Axis::kTensor); }},
    {.name = "double_count_norm",
     .what = "the gradient norm counts each copy of a dense gradient",
     .axis = Axis::kData,
     .computed = count_copies},
    {.name = "skip_rank_reduce",
     .what = "one rank's share is missing in the sums of dense gradients",
     .axis = Axis::kData,
     .begin = [](Training& training) { lose_share(training, Axis::kData); }},
    {.name = "skip_tensor_reduce",
     .what = "one rank's share is missing in the sums over the tensor group",
     .axis = Axis::kTensor,
     .begin = [](Training& training) { lose_share(training, Axis::kTensor); }},
    {.name = "skip_stage_reduce",
     .what = "the last stage's share is missing in the gradients of tables that stages share",
     .axis = Axis::kPipeline,
     .begin = [](Training& training) { lose_share(training, Axis::kPipeline); }},
    {.name = "wrong_stage_scale",
     .what = "the gradients of all stages but the last are multiplied by their number",
     .axis = Axis::kPipeline,
     .computed = scale_early_stages},
    {.name = "stale_weights",
     .what = "one rank keeps the weights that it began with",
     .axis = Axis::kData,
     .computed = keep_weights},
    {.name = "wrong_loss_scale",
     .what = "each rank divides its loss by its own tokens and not by the step's",
     .axis = Axis::kData,
     .computed = divide_by_own_tokens},
    {.name = "lost_token",
     .what = "one target of one rank is left out",
     .axis = Axis::kData,
     .begin = lose_target},
    {.name = "other_seed",
     .what = "one rank draws its first weights with a seed of its own",
     .axis = Axis::kData,
     .begin = draw_otherwise},
};

}  // namespace

std::span<const Mistake> all_mistakes() { return kMistakes; }

const Mistake* mistake_named(const std::string& name) {
  if (name.empty()) return nullptr;
  const auto found = std::ranges::find(kMistakes, name, &Mistake::name);
  if (found != std::end(kMistakes)) return &*found;
  std::string known;
  for (const Mistake& mistake : kMistakes)
    known += fmt::format("\n  {:<20} {}", mistake.name, mistake.what);
  throw ConfigError(fmt::format("--inject {}: expected one of{}", name, known));
}

}  // namespace switchyard::trainer
