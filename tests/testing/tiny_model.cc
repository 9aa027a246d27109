#include "tests/testing/tiny_model.h"

#include "core/config/layers.h"
#include "core/config/mesh_shape.h"
#include "core/data/case_source.h"
#include "core/data/loader.h"
#include "core/data/span_corruption.h"
#include "core/data/synthetic_source.h"
#include "core/tensor/parameter.h"
#include "models/model.h"
#include "models/moe/router/selection_bias.h"
#include "models/moe/stats.h"
#include "optim/adamw.h"
#include "optim/schedule.h"
#include "parallel/gradients.h"
#include "parallel/mesh.h"

namespace switchyard::testing {
namespace {

struct TinyData {
  std::shared_ptr<const TokenSource> source;
  std::shared_ptr<const BatchMaker> maker;
};

// Two noisy clouds per class, one on either side of the origin: no single linear expert parts them.
TinyData tiny_cases(const config::Model& model) {
  auto table = std::make_shared<Table>();
  table->num_features = model.d_model();
  table->num_classes = model.vocab_size();
  const Random random(3, Stream::kSynthetic);
  std::vector<int32_t> cases;
  for (int32_t i = 0; i < 64; ++i) {
    const int64_t label = i % table->num_classes;
    for (int64_t f = 0; f < table->num_features; ++f) {
      const double sign = (i / table->num_classes) % 2 == 0 ? 1 : -1;
      const double center = f == label % table->num_features ? 2 * sign : 0;
      table->features.push_back(static_cast<float>(center + 0.3 * random.normal(i * 8 + f)));
    }
    table->labels.push_back(static_cast<int32_t>(label));
    cases.push_back(i);
  }
  return {std::make_shared<CaseSource>("cases", cases, 64, 0), case_batches(table)};
}

TinyData tiny_data(const config::RunConfig& config) {
  const int32_t vocabulary = config.model().vocab_size();
  const int64_t length = config.data().sequence_length();
  switch (config.model().architecture()) {
    case config::LOCAL_EXPERTS:
      return tiny_cases(config.model());
    case config::ENCODER_DECODER: {
      const int32_t words = vocabulary - 4;  // sentinels above
      return {std::make_shared<SyntheticSource>(100'000, words, 5),
              span_corruption_batches(length, {}, {words - 1, vocabulary - 1}, config.seed())};
    }
    default:
      return {std::make_shared<SyntheticSource>(100'000, vocabulary, 5),
              next_token_batches(length)};
  }
}

BatchLoader make_loader(const config::RunConfig& config, const parallel::Mesh& mesh) {
  const TinyData data = tiny_data(config);
  const Blend blend({{data.source, 1.0}}, data.maker->sample_tokens(), config.seed());
  return BatchLoader(blend,
                     {config.train().global_batch(), config.train().accumulation(),
                      mesh.data().rank(), mesh.data().size(), /*prefetch=*/2, data.maker},
                     blend.start());
}

at::Tensor to_long(const std::vector<int32_t>& values, const Batch& batch) {
  return at::tensor(values, at::kInt).to(at::kLong).view({batch.num_sequences, -1});
}

models::TokenBatch to_tensors(const Batch& batch) {
  models::TokenBatch tensors{to_long(batch.tokens, batch), to_long(batch.targets, batch),
                             to_long(batch.documents, batch).to(at::kInt)};
  if (batch.source_length > 0) {
    tensors.source_BM = to_long(batch.source, batch);
    tensors.source_counts_B = to_long(batch.source_counts, batch).flatten();
  }
  if (batch.num_features > 0) {
    tensors.features_BF =
        at::tensor(batch.features, at::kFloat).view({batch.num_sequences, batch.num_features});
  }
  return tensors;
}

models::StepContext context_of(const config::RunConfig& config, const Batch& batch, int64_t step,
                               std::vector<models::RoutingStats>& stats) {
  models::StepContext context;
  context.training = true;
  context.key.seed = config.seed();
  context.key.step = step;
  context.tokens = models::TokenMap(batch.first_sequence * batch.length);
  context.group_tokens =
      batch.length * std::max(1, config.model().moe().capacity().group_sequences());
  context.count.in_step = config.train().global_batch() * batch.length;
  context.count.in_micro_batch = context.count.in_step / config.train().accumulation();
  // Generated rows have no padding.
  context.source_count.in_step = config.train().global_batch() * batch.source_length;
  context.source_count.in_micro_batch =
      context.source_count.in_step / config.train().accumulation();
  context.routing.stats = &stats;
  return context;
}

// Experts of all ranks in one tensor, in order of their id.
at::Tensor assemble(const Parameter& parameter, const at::Tensor& local,
                    const parallel::Mesh& mesh) {
  if (!parameter.experts()) return local.clone();
  at::Tensor whole = at::empty(parameter.shape, local.options());
  const at::Tensor piece = local.contiguous();
  mesh.expert().all_gather(piece.const_data_ptr(), whole.mutable_data_ptr(),
                           static_cast<int64_t>(piece.nbytes()), "assemble");
  return whole;
}

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

TrainingTrace train_tiny(const config::RunConfig& config, parallel::Communicator& world,
                         int steps) {
  const parallel::Mesh mesh(world, config::mesh_shape(config.mesh(), config.model(), world.size()));
  ParameterTable table;
  const models::Model model(Scope(table, mesh.layout()), config.model(), mesh);
  table.allocate(models::compute_type(config));
  table.initialize(config.seed());
  optim::AdamW optimizer(config.optimizer(), table.trained_groups());
  BatchLoader loader = make_loader(config, mesh);

  TrainingTrace trace;
  for (int step = 0; step < steps; ++step) {
    table.zero_gradients();
    std::vector<models::RoutingStats> stats(config::num_routers(config.model()));
    std::vector<models::LoadTotals> load_totals(stats.size());
    double loss = 0, targets = 0;
    const auto batches = loader.next_step();
    for (const Batch& batch : batches) {
      for (const int32_t target : batch.targets) targets += target >= 0;
    }
    targets = world.all_reduce(targets, parallel::ReduceOp::kSum, "targets");
    for (const Batch& batch : batches) {
      models::StepContext context = context_of(config, batch, step, stats);
      context.routing.load_totals = &load_totals;
      const at::Tensor share = model.loss(to_tensors(batch), context, 1 / targets, {},
                                          config.train().recompute() == config::RECOMPUTE_LAYER);
      if (&batch == &batches.back()) table.end_forward();
      share.backward();
      loss += share.item<double>();
    }
    parallel::reduce_gradients(table.trained_groups(), mesh);
    trace.losses.push_back(world.all_reduce(loss, parallel::ReduceOp::kSum, "loss"));
    trace.gradient_norms.push_back(parallel::gradient_norm(table.trained_groups(), mesh));
    const auto layer_stats = stats;  // of this rank
    models::reduce_stats(stats, world);
    if (!stats.empty()) {
      trace.balance.push_back(stats[0].balance_loss);
      trace.z.push_back(stats[0].z_loss);
      trace.dropped.push_back(stats[0].dropped);
    }
    if (step + 1 == steps) {
      for (const Parameter& p : table.parameters())
        trace.gradients[p.name] = assemble(p, p.grad, mesh);
    }
    trace.routers.push_back(stats);
    models::update_selection_bias(table, config.model().moe(), layer_stats, world);
    optimizer.step(optim::learning_rate(config.optimizer(), step, steps),
                   trace.gradient_norms.back());
  }
  for (const Parameter& p : table.parameters()) trace.weights[p.name] = assemble(p, p.master, mesh);
  return trace;
}

}  // namespace switchyard::testing
