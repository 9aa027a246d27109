#include "tests/testing/tiny_model.h"

namespace switchyard::testing {
namespace {

config::Moe tiny_moe(double init_std) {
  config::Moe moe;
  moe.set_num_experts(4);
  moe.set_top_k(2);
  moe.set_d_ff(24);
  moe.set_first_layer(0);
  moe.set_every_n_layers(1);
  moe.mutable_router()->set_score(config::SOFTMAX);
  moe.mutable_router()->set_selection(config::TOP_K);
  moe.mutable_router()->set_weighting(config::RENORMALIZE);
  moe.mutable_router()->set_weight_norm(1);
  moe.mutable_router()->set_route_scale(1);
  moe.mutable_router()->set_init_std(init_std);
  moe.mutable_router()->set_second_choice(config::ALWAYS);
  moe.mutable_capacity()->set_policy(config::NO_DROP);
  moe.mutable_capacity()->set_group_sequences(1);
  moe.mutable_balance_loss()->set_coefficient(0.05);
  moe.mutable_balance_loss()->set_statistics(config::GLOBAL_BATCH);
  moe.mutable_balance_loss()->set_load(config::ALL_CHOICES);
  moe.set_z_loss_coefficient(0.01);
  moe.set_ffn(config::SWIGLU);
  moe.set_stacking(config::NO_STACKING);
  return moe;
}

}  // namespace

config::RunConfig tiny_config() {
  config::RunConfig config;
  config.set_seed(3);
  config::Model& model = *config.mutable_model();
  model.set_num_layers(2);
  model.set_d_model(16);
  model.set_vocab_size(32);
  model.set_ffn(config::SWIGLU);
  model.set_ffn_bias(config::NO_FFN_BIAS);
  model.set_norm(config::RMS_NORM);
  model.set_norm_cast(config::SCALE_THEN_CAST);
  model.set_embedding_scale(1);
  model.set_output_scale(1);
  model.set_norm_eps(1e-5);
  model.set_tie_embeddings(true);
  model.set_init_std(0.2);
  model.set_scale_init_by_depth(false);
  model.mutable_attention()->set_num_heads(4);
  model.mutable_attention()->set_num_kv_heads(2);
  model.mutable_attention()->set_head_dim(4);
  model.mutable_attention()->set_rope_theta(10000);
  model.mutable_attention()->set_position(config::ROPE);
  model.mutable_attention()->set_qk_norm(config::NO_QK_NORM);
  model.mutable_attention()->set_scale(0.5);
  *model.mutable_moe() = tiny_moe(model.init_std());
  config.mutable_data()->set_sequence_length(12);
  config.mutable_data()->mutable_synthetic()->set_num_tokens(100'000);
  config.mutable_data()->mutable_synthetic()->set_seed(5);
  config.mutable_train()->set_global_batch(8);
  config.mutable_train()->set_accumulation(1);
  config.mutable_train()->set_recompute(config::RECOMPUTE_NONE);
  config::Optimizer& optimizer = *config.mutable_optimizer();
  optimizer.set_lr(1e-2);
  optimizer.set_min_lr(1e-3);
  optimizer.set_schedule(config::COSINE);
  optimizer.set_warmup_steps(2);
  optimizer.set_beta1(0.9);
  optimizer.set_beta2(0.95);
  optimizer.set_eps(1e-8);
  optimizer.set_weight_decay(0.1);
  optimizer.set_clip_norm(1.0);
  config.mutable_runtime()->set_compute(config::FP64);
  return config;
}

config::RunConfig tiny_expert_forms(config::Stacking stacking) {
  config::RunConfig config = tiny_config();
  config::Model& model = *config.mutable_model();
  model.set_d_ff(20);
  model.set_ffn(config::GEGLU);
  model.set_ffn_bias(config::MULTIPLICATIVE);
  model.set_ffn_dropout(0.25);
  config::Moe& moe = *model.mutable_moe();
  moe.set_ffn(config::RELU);
  moe.set_expert_dropout(0.25);
  moe.set_stacking(stacking);
  moe.mutable_shared_expert()->set_count(2);
  moe.mutable_shared_expert()->set_d_ff(4);
  moe.mutable_shared_expert()->set_ffn(config::SWIGLU);
  moe.mutable_shared_expert()->set_sigmoid_gate(true);
  return config;
}

config::RunConfig tiny_lstm_lm() {
  config::RunConfig config = tiny_config();
  config::Model& model = *config.mutable_model();
  model.set_architecture(config::LSTM_LM);
  model.mutable_moe()->set_every_n_layers(2);
  model.mutable_lstm()->set_hidden(20);  // projected to d_model
  model.mutable_lstm()->set_sampled_softmax(10);
  model.set_dropout(0.1);
  model.set_tie_embeddings(false);
  return config;
}

config::RunConfig tiny_encoder_decoder() {
  config::RunConfig config = tiny_config();
  config::Model& model = *config.mutable_model();
  model.set_architecture(config::ENCODER_DECODER);
  model.mutable_moe()->set_every_n_layers(2);
  model.set_d_ff(24);
  model.set_dropout(0.1);
  config::Attention& attention = *model.mutable_attention();
  attention.set_position(config::RELATIVE_BIAS);
  attention.set_scale(1);
  attention.mutable_relative_bias()->set_num_buckets(32);
  attention.mutable_relative_bias()->set_max_distance(128);
  attention.set_dropout(0.1);
  model.set_ffn_dropout(0.1);
  config.mutable_data()->set_sequence_length(24);
  config.mutable_data()->set_objective(config::SPAN_CORRUPTION);
  config.mutable_data()->mutable_spans()->set_density(0.15);
  config.mutable_data()->mutable_spans()->set_mean_length(3);
  return config;
}

config::RunConfig tiny_local_experts() {
  config::RunConfig config = tiny_config();
  config::Model& model = *config.mutable_model();
  model.set_architecture(config::LOCAL_EXPERTS);
  model.clear_moe();
  model.set_d_model(2);
  model.set_vocab_size(2);
  model.set_initializer(config::UNIFORM);
  model.set_init_range(0.5);
  config::LocalExperts& experts = *model.mutable_local_experts();
  experts.set_num_experts(4);
  experts.set_output(config::LOGISTIC);
  experts.set_error(config::MIXTURE);
  config.mutable_train()->set_global_batch(64);
  config.mutable_optimizer()->set_lr(0.1);
  return config;
}

}  // namespace switchyard::testing
