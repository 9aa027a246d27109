#include "core/config/defaults.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "core/config/layers.h"
#include "core/config/unused_fields.h"

// Sets a field unless it is set.
#define SY_DEFAULT(group, field, value)                     \
  do {                                                      \
    if (!(group).has_##field()) (group).set_##field(value); \
  } while (false)

namespace switchyard::config {
namespace {

// The sizes are DeepSeek-V2's; only its larger models have a latent for queries.
void default_latent(Attention& attention) {
  Latent& latent = *attention.mutable_latent();
  SY_DEFAULT(latent, kv_rank, 512);
  SY_DEFAULT(latent, q_rank, 0);
  SY_DEFAULT(latent, rope_dim, 64);
  SY_DEFAULT(latent, nope_dim, 128);
  SY_DEFAULT(latent, value_dim, 128);
  SY_DEFAULT(attention, head_dim, latent.nope_dim() + latent.rope_dim());
}

void default_yarn(Yarn& yarn) {
  SY_DEFAULT(yarn, factor, 40.0);
  SY_DEFAULT(yarn, original_length, 4096);
  SY_DEFAULT(yarn, beta_fast, 32.0);
  SY_DEFAULT(yarn, beta_slow, 1.0);
  SY_DEFAULT(yarn, mscale, 1.0);
}

double default_scale(const Attention& attention) {
  if (attention.position() == RELATIVE_BIAS) return 1;
  const double plain = attention.head_dim() > 0 ? 1 / std::sqrt(attention.head_dim()) : 1;
  const Yarn& yarn = attention.yarn();
  if (!attention.has_yarn() || yarn.factor() <= 0) return plain;
  const double m = 0.1 * yarn.mscale() * std::log(yarn.factor()) + 1;
  return plain * m * m;
}

void default_attention(const Model& model, Attention& attention) {
  if (attention.has_latent()) default_latent(attention);
  if (attention.has_num_heads()) {
    SY_DEFAULT(attention, num_kv_heads, attention.num_heads());
    if (attention.num_heads() > 0 && model.has_d_model())
      SY_DEFAULT(attention, head_dim, model.d_model() / attention.num_heads());
  }
  SY_DEFAULT(attention, position, model.architecture() == ENCODER_DECODER ? RELATIVE_BIAS : ROPE);
  SY_DEFAULT(attention, rope_theta, 10000.0);
  if (attention.position() == RELATIVE_BIAS) {
    SY_DEFAULT(*attention.mutable_relative_bias(), num_buckets, 32);
    SY_DEFAULT(*attention.mutable_relative_bias(), max_distance, 128);
    SY_DEFAULT(*attention.mutable_relative_bias(), shared, true);
  }
  if (attention.has_yarn()) default_yarn(*attention.mutable_yarn());
  SY_DEFAULT(attention, scale, default_scale(attention));
  SY_DEFAULT(attention, logit_cap, 0.0);
  SY_DEFAULT(attention, qkv_bias, false);
  SY_DEFAULT(attention, qkv_clip, 0.0);
  SY_DEFAULT(attention, qk_norm, NO_QK_NORM);
  SY_DEFAULT(attention, sliding_window, 0);
  SY_DEFAULT(attention, dropout, 0.0);
  SY_DEFAULT(attention, switch_projections, false);
}

// Whether the router's losses and a weight of 1 for a single choice make sense: not where the
// router has nothing to learn, nor where balance is given.
bool wants_losses(const Router& router) {
  return router.weighting() != EQUAL && router.selection() != EXPERT_CHOICE &&
         router.selection() != STRICTLY_BALANCED;
}

Weighting default_weighting(const Moe& moe) {
  const Selection selection = moe.router().selection();
  if (selection == HASH) return EQUAL;
  if (selection == STRICTLY_BALANCED) return RENORMALIZE_KEPT;
  // One chosen expert renormalised always weighs 1, and the router would learn nothing.
  const bool one =
      moe.top_k() == 1 || selection == EXPERT_CHOICE || moe.capacity().policy() == NEXT_FREE;
  return one ? RAW : RENORMALIZE;
}

void default_router(const Model& model, Router& router) {
  const Moe& moe = model.moe();
  SY_DEFAULT(router, score, SOFTMAX);
  SY_DEFAULT(router, selection, TOP_K);
  SY_DEFAULT(router, weighting, default_weighting(moe));
  SY_DEFAULT(router, input_jitter, 0.0);
  SY_DEFAULT(router, input_dropout, 0.0);
  SY_DEFAULT(router, noise, NO_NOISE);
  if (router.noise() == FIXED_NOISE && moe.num_experts() > 0)
    SY_DEFAULT(router, noise_std, 1.0 / moe.num_experts());
  SY_DEFAULT(router, precision, ROUTER_FP32);
  SY_DEFAULT(router, init_std, declared_init_std(model));
  SY_DEFAULT(router, initializer, AS_MODEL);
  SY_DEFAULT(router, weight_norm, 1.0);
  SY_DEFAULT(router, route_scale, 1.0);
  SY_DEFAULT(router, second_choice, ALWAYS);
  SY_DEFAULT(router, second_choice_threshold,
             0.5);  // GShard: kept with probability min(1, 2 weight)
  SY_DEFAULT(router, later_choice_threshold, router.second_choice_threshold());
  SY_DEFAULT(router, hierarchy, ONE_LEVEL);
  SY_DEFAULT(router, num_groups, 1);
  SY_DEFAULT(router, group_top_k, router.num_groups());
  SY_DEFAULT(router, group_score_experts, 1);
  SY_DEFAULT(router, selection_bias, false);
  SY_DEFAULT(router, bias_update_rate, 1e-3);
}

void default_capacity(const Moe& moe, Capacity& capacity) {
  const Selection selection = moe.router().selection();
  const bool experts_choose = selection == EXPERT_CHOICE || selection == STRICTLY_BALANCED;
  SY_DEFAULT(capacity, policy, experts_choose ? BY_PROBABILITY : NO_DROP);
  SY_DEFAULT(capacity, group_sequences, 1);
  SY_DEFAULT(capacity, max_group_tokens, 0);
  SY_DEFAULT(capacity, group_rule, MESH_TENSORFLOW);
  const bool exact = capacity.policy() == DEVICE_BUDGET || selection == STRICTLY_BALANCED;
  SY_DEFAULT(capacity, fixed_slots, 0);
  SY_DEFAULT(capacity, train_factor, exact ? 1.0 : 1.25);
  // More in evaluation is for tokens that found no room; experts that choose would take more.
  SY_DEFAULT(capacity, eval_factor, selection == EXPERT_CHOICE ? capacity.train_factor() : 2.0);
  SY_DEFAULT(capacity, counts_k, true);
  SY_DEFAULT(capacity, minimum, exact ? 0 : 4);
  SY_DEFAULT(capacity, rounding, ROUND_DOWN);
  SY_DEFAULT(capacity, multiple_of, 1);
  SY_DEFAULT(capacity, rounds, moe.top_k() > 1 ? moe.top_k() : std::min(4, moe.num_experts()));
  SY_DEFAULT(capacity, exempt_share, 0.1);
  SY_DEFAULT(capacity, second_level_factor, 1.0);
}

void default_shared_expert(const Moe& moe, SharedExpert& shared) {
  SY_DEFAULT(shared, count, 1);
  if (moe.has_d_ff()) SY_DEFAULT(shared, d_ff, moe.d_ff());
  SY_DEFAULT(shared, sigmoid_gate, false);
  SY_DEFAULT(shared, ffn, moe.ffn());
}

void default_moe(const Model& model, Moe& moe) {
  SY_DEFAULT(moe, top_k, 2);
  SY_DEFAULT(moe, first_layer, 0);
  SY_DEFAULT(moe, every_n_layers, 1);
  default_router(model, *moe.mutable_router());
  default_capacity(moe, *moe.mutable_capacity());
  BalanceLoss& balance = *moe.mutable_balance_loss();
  const bool losses = wants_losses(moe.router());
  SY_DEFAULT(balance, coefficient, losses || decoder_chooses_by_token(model) ? 0.01 : 0.0);
  SY_DEFAULT(balance, statistics, GLOBAL_BATCH);
  SY_DEFAULT(balance, load, ALL_CHOICES);
  SY_DEFAULT(balance, second_place, false);
  SY_DEFAULT(balance, device_coefficient, 0.0);
  SY_DEFAULT(balance, communication_coefficient, 0.0);
  SY_DEFAULT(moe, num_devices, moe.router().num_groups());
  SY_DEFAULT(moe, layer_aggregation, SUM_OVER_LAYERS);
  SY_DEFAULT(moe, dead_expert_action, LEAVE);
  SY_DEFAULT(moe, dead_expert_noise, 0.1);
  const bool one_level = moe.router().hierarchy() == ONE_LEVEL;
  SY_DEFAULT(moe, z_loss_coefficient, losses && one_level ? 1e-3 : 0.0);
  SY_DEFAULT(moe, importance_loss_coefficient, 0.0);
  SY_DEFAULT(moe, load_loss_coefficient, 0.0);
  SY_DEFAULT(moe, ffn, model.ffn());
  SY_DEFAULT(moe, hidden_layers, 1);
  SY_DEFAULT(moe, expert_dropout, 0.0);
  SY_DEFAULT(moe, stacking, NO_STACKING);
  SY_DEFAULT(moe, allow_future, false);
  if (moe.has_shared_expert()) default_shared_expert(moe, *moe.mutable_shared_expert());
}

void default_initializer(Model& model) {
  SY_DEFAULT(model, initializer, NORMAL);
  SY_DEFAULT(model, init_std, kInitStd);
  const bool has_residual = has_attention(model) || model.has_moe();
  SY_DEFAULT(model, scale_init_by_depth, model.initializer() == NORMAL && has_residual);
  if (model.initializer() == NORMAL) SY_DEFAULT(model, init_cut, 0.0);
  if (model.initializer() == TRUNCATED_NORMAL) {
    SY_DEFAULT(model, init_scale, 1.0);
    SY_DEFAULT(model, init_restore_variance, false);
  }
  if (model.initializer() == UNIFORM) SY_DEFAULT(model, init_range, 0.05);
}

void default_lstm_lm(Model& model) {
  Lstm& lstm = *model.mutable_lstm();
  SY_DEFAULT(lstm, hidden, model.d_model());
  SY_DEFAULT(lstm, sampled_softmax, 0);
  SY_DEFAULT(model, tie_embeddings, false);
  SY_DEFAULT(model, d_ff, 0);
}

void default_local_experts(Model& model) {
  LocalExperts& experts = *model.mutable_local_experts();
  SY_DEFAULT(experts, num_experts, 4);
  SY_DEFAULT(experts, hidden_units, 0);
  SY_DEFAULT(experts, output, LOGISTIC);
  SY_DEFAULT(experts, error, MIXTURE);
  SY_DEFAULT(model, initializer, UNIFORM);
  if (model.initializer() == UNIFORM) SY_DEFAULT(model, init_range, 0.5);
  SY_DEFAULT(model, num_layers, 1);
  SY_DEFAULT(model, d_ff, 0);
}

// Fields that only transformers have.
void default_transformer(Model& model) {
  SY_DEFAULT(model, norm, RMS_NORM);
  SY_DEFAULT(model, norm_cast, SCALE_THEN_CAST);
  SY_DEFAULT(model, norm_eps, 1e-5);
  SY_DEFAULT(model, sandwich_norm, false);
  SY_DEFAULT(model, embedding_scale, 1.0);
  SY_DEFAULT(model, output_scale, 1.0);
  default_attention(model, *model.mutable_attention());
}

// Called once it is known which layers are dense.
void default_ffn_dropout(Model& model) {
  const bool counts_layers = !model.has_moe() || model.moe().every_n_layers() > 0;
  if (!counts_layers || !has_dense_ffn(model)) return;
  SY_DEFAULT(model, ffn_dropout, model.architecture() == ENCODER_DECODER ? model.dropout() : 0.0);
}

void default_model(Model& model) {
  SY_DEFAULT(model, architecture, DECODER);
  if (model.architecture() == LSTM_LM) default_lstm_lm(model);
  if (model.architecture() == LOCAL_EXPERTS) default_local_experts(model);
  SY_DEFAULT(model, dropout, 0.0);
  if (has_attention(model) || model.has_moe()) {
    SY_DEFAULT(model, ffn, SWIGLU);
    SY_DEFAULT(model, ffn_bias, NO_FFN_BIAS);
  }
  SY_DEFAULT(model, tie_embeddings, true);
  SY_DEFAULT(model, output_z_loss_coefficient, 0.0);
  if (model.has_mtp()) SY_DEFAULT(*model.mutable_mtp(), weight, 0.3);
  default_initializer(model);
  if (has_attention(model)) default_transformer(model);
  if (model.has_moe()) default_moe(model, *model.mutable_moe());
  default_ffn_dropout(model);
  if (!model.has_moe()) return;
  const Moe& moe = model.moe();
  const bool all_moe = moe.first_layer() == 0 && moe.every_n_layers() == 1;
  if (all_moe && moe.stacking() == NO_STACKING) SY_DEFAULT(model, d_ff, 0);  // no dense layer
}

void default_names(google::protobuf::RepeatedPtrField<Source>& sources) {
  for (Source& source : sources) {
    const std::string& path = source.path();
    if (source.has_path()) SY_DEFAULT(source, name, path.substr(path.find_last_of('/') + 1));
  }
}

Objective objective_of(Architecture architecture) {
  if (architecture == ENCODER_DECODER) return SPAN_CORRUPTION;
  return architecture == LOCAL_EXPERTS ? CLASSIFICATION : NEXT_TOKEN;
}

void default_table(Data& data, Model& model) {
  Table& table = *data.mutable_table();
  SY_DEFAULT(table, split_seed, 1);
  SY_DEFAULT(data, sequence_length, 1);
  SY_DEFAULT(model, d_model, table.features_size());
  SY_DEFAULT(model, vocab_size, table.classes_size());
}

void default_synthetic(uint64_t seed, Synthetic& synthetic) {
  SY_DEFAULT(synthetic, num_tokens, 1 << 20);
  SY_DEFAULT(synthetic, kind, NOISY_BIGRAMS);
  if (synthetic.kind() == DOMAIN_BIGRAMS) SY_DEFAULT(synthetic, num_domains, 16);
  SY_DEFAULT(synthetic, seed, seed);
}

void default_data(uint64_t seed, Data& data, Model& model) {
  default_names(*data.mutable_train());
  default_names(*data.mutable_validation());
  for (Source& source : *data.mutable_train()) SY_DEFAULT(source, weight, 1.0);
  if (data.has_table()) default_table(data, model);
  SY_DEFAULT(data, sequence_length, 256);
  SY_DEFAULT(data, objective, objective_of(model.architecture()));
  if (data.objective() == SPAN_CORRUPTION) {
    SY_DEFAULT(*data.mutable_spans(), density, 0.15);
    SY_DEFAULT(*data.mutable_spans(), mean_length, 3.0);
  }
  SY_DEFAULT(data, attend_across_documents, false);
  if (data.objective() == TRANSLATION) SY_DEFAULT(data, target_length, data.sequence_length());
  if (data.has_synthetic()) default_synthetic(seed, *data.mutable_synthetic());
}

// Called once the longest row of the data is known.
void default_positions(const Data& data, Model& model) {
  if (!has_attention(model) || model.attention().position() != LEARNED_POSITIONS) return;
  SY_DEFAULT(*model.mutable_attention(), max_positions, data.sequence_length());
}

void default_adafactor(Adafactor& adafactor) {
  SY_DEFAULT(adafactor, decay_exponent, 0.8);
  SY_DEFAULT(adafactor, epsilon, 1e-30);
  SY_DEFAULT(adafactor, update_clip, 1.0);
  SY_DEFAULT(adafactor, scale_by_parameter, true);
  SY_DEFAULT(adafactor, least_scale, 1e-3);
  SY_DEFAULT(adafactor, least_factored_dim, 128);
  SY_DEFAULT(adafactor, beta2, 1.0);
}

// The fields that the optimizer's kind uses; the others stay unset.
void default_update(Optimizer& optimizer) {
  SY_DEFAULT(optimizer, kind, ADAMW);
  const OptimizerKind kind = optimizer.kind();
  const bool is_adam = kind == ADAMW || kind == ADAM_FACTORED_EXPERTS;
  if (is_adam) {
    SY_DEFAULT(optimizer, beta1, 0.9);
    SY_DEFAULT(optimizer, beta2, 0.95);
    SY_DEFAULT(optimizer, eps, 1e-8);
  }
  if (kind == ADAFACTOR) default_adafactor(*optimizer.mutable_adafactor());
  if (kind == SGD) SY_DEFAULT(optimizer, momentum, 0.0);
  SY_DEFAULT(optimizer, weight_decay, is_adam ? 0.1 : 0.0);
  SY_DEFAULT(optimizer, clip_norm, is_adam ? 1.0 : 0.0);  // Adafactor clips each parameter's update
}

void default_optimizer(int64_t steps, Optimizer& optimizer) {
  SY_DEFAULT(optimizer, lr, 1e-3);
  SY_DEFAULT(optimizer, min_lr, std::max(0.0, optimizer.lr() / 10));
  SY_DEFAULT(optimizer, schedule, COSINE);
  SY_DEFAULT(optimizer, warmup_steps, std::max<int64_t>(0, steps / 50));  // 2 %
  if (optimizer.schedule() == CONSTANT_THEN_DECAY) SY_DEFAULT(optimizer, decay_fraction, 0.3);
  if (optimizer.schedule() == INVERSE_SQRT) {
    SY_DEFAULT(optimizer, decay_fraction, 0.0);
    SY_DEFAULT(optimizer, hold_steps, 0);
  }
  default_update(optimizer);
  SY_DEFAULT(optimizer, decay_norms, false);
  SY_DEFAULT(optimizer, decay_embeddings, true);
  SY_DEFAULT(optimizer, sharded, false);
}

void default_schedules(google::protobuf::RepeatedPtrField<ValueSchedule>& schedules) {
  for (ValueSchedule& schedule : schedules)
    for (SchedulePoint& point : *schedule.mutable_point()) SY_DEFAULT(point, approach, AT_ONCE);
}

void default_train(Train& train) {
  SY_DEFAULT(train, accumulation, 1);
  SY_DEFAULT(train, recompute, RECOMPUTE_NONE);
  SY_DEFAULT(train, stop_after_steps, 0);
  SY_DEFAULT(train, max_skipped_steps, 10);
  SY_DEFAULT(train, stop_below_error, 0.0);
}

void default_eval(const RunConfig& config, Eval& eval) {
  const int64_t tenth = std::max<int64_t>(1, config.train().steps() / 10);
  SY_DEFAULT(eval, every, has_validation(config.data()) ? tenth : 0);
  SY_DEFAULT(eval, sequences, 256);
}

// A run that nobody told when to save must not lose more than half an hour.
void default_checkpoint(Checkpoint& checkpoint) {
  SY_DEFAULT(checkpoint, every, 0);
  SY_DEFAULT(checkpoint, every_minutes, checkpoint.every() == 0 ? 30.0 : 0.0);
  SY_DEFAULT(checkpoint, keep, 2);
  SY_DEFAULT(checkpoint, asynchronous, false);
}

void default_log(Log& log) {
  constexpr int64_t kLoadSteps = 100;
  SY_DEFAULT(log, every, 10);
  SY_DEFAULT(log, dead_after_steps, 100);
  const int64_t every = std::max<int64_t>(1, log.every());
  SY_DEFAULT(log, load_every, ((kLoadSteps - 1) / every + 1) * every);
  SY_DEFAULT(log, spike_sigmas, 6.0);
  SY_DEFAULT(log, straggler_factor, 2.0);
  SY_DEFAULT(log, straggler_steps, 100);
}

}  // namespace

void apply_defaults(RunConfig& config) {
  const RunConfig given = config;
  SY_DEFAULT(config, output_dir, "runs");
  SY_DEFAULT(config, seed, 1);
  default_model(*config.mutable_model());
  default_data(config.seed(), *config.mutable_data(), *config.mutable_model());
  default_positions(config.data(), *config.mutable_model());
  default_train(*config.mutable_train());
  default_optimizer(config.train().steps(), *config.mutable_optimizer());
  config.mutable_mesh();
  default_eval(config, *config.mutable_eval());
  default_checkpoint(*config.mutable_checkpoint());
  default_log(*config.mutable_log());
  SY_DEFAULT(*config.mutable_runtime(), compute, FP32);
  SY_DEFAULT(*config.mutable_runtime(), threads, 0);
  SY_DEFAULT(*config.mutable_runtime(), timeout_seconds, 600);
  SY_DEFAULT(*config.mutable_runtime(), check_memory, true);
  SY_DEFAULT(*config.mutable_runtime(), checked_collectives, false);
  default_schedules(*config.mutable_schedule());
  clear_unused_fields(given, config);
}

}  // namespace switchyard::config

#undef SY_DEFAULT
