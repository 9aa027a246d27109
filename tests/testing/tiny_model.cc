#include "tests/testing/tiny_model.h"

#include "core/config/layers.h"
#include "core/data/loader.h"
#include "core/data/synthetic_source.h"
#include "core/tensor/parameter.h"
#include "models/decoder.h"
#include "models/moe/selection_bias.h"
#include "models/moe/stats.h"
#include "optim/adamw.h"
#include "optim/schedule.h"
#include "parallel/gradients.h"
#include "parallel/mesh.h"

namespace switchyard::testing {
namespace {

at::ScalarType type_of(const config::RunConfig& config) {
  switch (config.runtime().compute()) {
    case config::BF16:
      return at::kBFloat16;
    case config::FP64:
      return at::kDouble;
    default:
      return at::kFloat;
  }
}

BatchLoader make_loader(const config::RunConfig& config, const parallel::Mesh& mesh) {
  const auto source = std::make_shared<SyntheticSource>(100'000, config.model().vocab_size(), 5);
  const Blend blend({{source, 1.0}}, config.data().sequence_length(), config.seed());
  return BatchLoader(blend,
                     {config.train().global_batch(), config.train().accumulation(),
                      mesh.data().rank(), mesh.data().size()},
                     blend.start());
}

at::Tensor to_long(const std::vector<int32_t>& values, const Batch& batch) {
  return at::tensor(values, at::kInt).to(at::kLong).view({batch.num_sequences, batch.length});
}

models::StepContext context_of(const config::RunConfig& config, const Batch& batch, int64_t step,
                               std::vector<models::RoutingStats>& stats) {
  models::StepContext context;
  context.training = true;
  context.seed = config.seed();
  context.step = step;
  context.first_token = batch.first_sequence * batch.length;
  context.group_tokens = batch.length * config.model().moe().capacity().group_sequences();
  context.tokens_in_step = config.train().global_batch() * batch.length;
  context.tokens_in_micro_batch = context.tokens_in_step / config.train().accumulation();
  context.stats = &stats;
  return context;
}

// Experts of all ranks in one tensor, in order of their id.
at::Tensor assemble(const Parameter& parameter, const at::Tensor& local,
                    const parallel::Mesh& mesh) {
  if (!parameter.experts) return local.clone();
  at::Tensor whole = at::empty(parameter.shape, local.options());
  const at::Tensor piece = local.contiguous();
  mesh.expert().all_gather(piece.const_data_ptr(), whole.mutable_data_ptr(),
                           static_cast<int64_t>(piece.nbytes()), "assemble");
  return whole;
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
  config::Moe& moe = *model.mutable_moe();
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
  moe.mutable_router()->set_init_std(model.init_std());
  moe.mutable_router()->set_second_choice(config::ALWAYS);
  moe.mutable_capacity()->set_policy(config::NO_DROP);
  moe.mutable_capacity()->set_group_sequences(1);
  moe.mutable_balance_loss()->set_coefficient(0.05);
  moe.mutable_balance_loss()->set_statistics(config::GLOBAL_BATCH);
  moe.mutable_balance_loss()->set_load(config::ALL_CHOICES);
  moe.set_z_loss_coefficient(0.01);
  moe.set_ffn(config::SWIGLU);
  moe.set_stacking(config::NO_STACKING);
  config.mutable_data()->set_sequence_length(12);
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

TrainingTrace train_tiny(const config::RunConfig& config, parallel::Communicator& world,
                         int steps) {
  parallel::MeshDegrees degrees;
  if (config.mesh().has_expert()) degrees.expert = config.mesh().expert();
  const parallel::Mesh mesh(world, degrees, config.model().moe().num_experts());
  ParameterTable table;
  const models::Decoder decoder(table, config.model(), mesh);
  table.allocate(type_of(config));
  table.initialize(config.seed());
  optim::AdamW optimizer(config.optimizer(), table.groups());
  BatchLoader loader = make_loader(config, mesh);

  TrainingTrace trace;
  for (int step = 0; step < steps; ++step) {
    table.zero_gradients();
    std::vector<models::RoutingStats> stats(config::num_moe_layers(config.model()));
    double loss = 0, targets = 0;
    const auto batches = loader.next_step();
    for (const Batch& batch : batches) {
      for (const int32_t target : batch.targets) targets += target >= 0;
    }
    targets = world.all_reduce(targets, parallel::ReduceOp::kSum, "targets");
    for (const Batch& batch : batches) {
      const models::TokenBatch tokens{to_long(batch.tokens, batch), to_long(batch.targets, batch),
                                      to_long(batch.documents, batch).to(at::kInt)};
      const at::Tensor share =
          decoder.loss(tokens, context_of(config, batch, step, stats), 1 / targets, {},
                       config.train().recompute() == config::RECOMPUTE_LAYER);
      share.backward();
      loss += share.item<double>();
    }
    parallel::reduce_gradients(table.groups(), mesh);
    trace.losses.push_back(world.all_reduce(loss, parallel::ReduceOp::kSum, "loss"));
    trace.gradient_norms.push_back(parallel::gradient_norm(table.groups(), mesh));
    const auto layer_stats = stats;  // of this rank
    models::reduce_stats(stats, world);
    trace.balance.push_back(stats[0].balance_loss);
    trace.z.push_back(stats[0].z_loss);
    trace.dropped.push_back(stats[0].dropped);
    if (step + 1 == steps) {
      for (const Parameter& p : table.parameters())
        trace.gradients[p.name] = assemble(p, p.grad, mesh);
    }
    models::update_selection_bias(table, config.model().moe(), layer_stats, world);
    optimizer.step(optim::learning_rate(config.optimizer(), step, steps),
                   trace.gradient_norms.back());
  }
  for (const Parameter& p : table.parameters()) trace.weights[p.name] = assemble(p, p.master, mesh);
  return trace;
}

}  // namespace switchyard::testing
