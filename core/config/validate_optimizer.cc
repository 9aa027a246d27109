// Rules about the optimizer, its schedule and the initialisation.

#include <string_view>

#include "core/config/validate_rules.h"

namespace switchyard::config {

namespace {

void check_schedule(const RunConfig& config, Findings& findings) {
  const Optimizer& optimizer = config.optimizer();
  if (optimizer.lr() > 0 && optimizer.min_lr() > optimizer.lr())
    findings.add(
        "optimizer.min_lr ({}) must be at most optimizer.lr ({}); lower min_lr or raise lr",
        optimizer.min_lr(), optimizer.lr());
  const int64_t steps = config.train().steps();
  if (steps > 0 && optimizer.warmup_steps() > steps)
    findings.add(
        "optimizer.warmup_steps ({}) must be at most train.steps ({}), else the peak rate "
        "is never reached; lower warmup_steps or leave it out (2 % of the steps)",
        optimizer.warmup_steps(), steps);
  if (optimizer.has_hold_steps() && optimizer.schedule() != INVERSE_SQRT)
    findings.add(
        "optimizer.hold_steps ({}) is set, but schedule {} does not hold the peak; use "
        "INVERSE_SQRT or leave it out",
        optimizer.hold_steps(), Schedule_Name(optimizer.schedule()));
  const bool decays_last =
      optimizer.schedule() == CONSTANT_THEN_DECAY || optimizer.schedule() == INVERSE_SQRT;
  if (optimizer.has_decay_fraction() && !decays_last)
    findings.add(
        "optimizer.decay_fraction ({}) is set, but schedule {} has no final decay; use "
        "CONSTANT_THEN_DECAY or INVERSE_SQRT, or leave it out",
        optimizer.decay_fraction(), Schedule_Name(optimizer.schedule()));
  if (optimizer.schedule() == CONSTANT_THEN_DECAY && optimizer.decay_fraction() == 0)
    findings.add(
        "optimizer.decay_fraction (0) must be above 0 with schedule CONSTANT_THEN_DECAY, else "
        "nothing decays; raise it or use CONSTANT");
}

// A field that the kind ignores was meant for another kind.
void check_unused(const Optimizer& optimizer, Findings& findings) {
  const OptimizerKind kind = optimizer.kind();
  const bool is_adam = kind == ADAMW || kind == ADAM_FACTORED_EXPERTS;
  const auto unused = [&](bool is_set, bool is_used, std::string_view field,
                          std::string_view owner) {
    if (is_set && !is_used)
      findings.add("optimizer.{} is set, but kind {} does not use it; leave it out or set kind: {}",
                   field, OptimizerKind_Name(kind), owner);
  };
  unused(optimizer.has_beta1(), is_adam, "beta1", "ADAMW");
  unused(optimizer.has_beta2(), is_adam, "beta2", "ADAMW");
  unused(optimizer.has_eps(), is_adam, "eps", "ADAMW");
  unused(optimizer.has_momentum(), kind == SGD, "momentum", "SGD");
  unused(optimizer.has_adafactor(), kind == ADAFACTOR, "adafactor", "ADAFACTOR");
}

void check_factored_experts(const RunConfig& config, Findings& findings) {
  if (config.optimizer().kind() == ADAM_FACTORED_EXPERTS && !config.model().has_moe())
    findings.add(
        "optimizer.kind (ADAM_FACTORED_EXPERTS) is for models with experts, and model.moe is not "
        "set; use ADAMW");
}

void check_initializer(const Model& model, Findings& findings) {
  const Initializer kind = model.initializer();
  const auto unused = [&](bool is_set, Initializer owner, std::string_view field) {
    if (is_set && kind != owner)
      findings.add(
          "model.{} is set, but initializer {} does not use it; leave it out or set initializer: "
          "{}",
          field, Initializer_Name(kind), Initializer_Name(owner));
  };
  unused(model.has_init_scale(), TRUNCATED_NORMAL, "init_scale");
  unused(model.has_init_restore_variance(), TRUNCATED_NORMAL, "init_restore_variance");
  unused(model.has_init_range(), UNIFORM, "init_range");
  unused(model.has_init_cut(), NORMAL, "init_cut");
  if (model.scale_init_by_depth() && kind != NORMAL)
    findings.add(
        "model.scale_init_by_depth (true) needs initializer NORMAL, got {}; leave one of them out",
        Initializer_Name(kind));
}

}  // namespace

void check_optimizer(const RunConfig& config, Findings& findings) {
  check_schedule(config, findings);
  check_unused(config.optimizer(), findings);
  check_factored_experts(config, findings);
  check_initializer(config.model(), findings);
}

}  // namespace switchyard::config
