// Every scalar of the schema, set alone in each of a few runs, is refused or changes what the run
// computes. The walk is over the schema itself, so that a new field is in it.

#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>
#include <memory>
#include <optional>

#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gmock/gmock.h>
#include <google/protobuf/descriptor.h>

#include "core/base/errors.h"
#include "core/config/fields.h"
#include "core/config/reader.h"
#include "core/data/tokenize.h"
#include "models/pass/stats.h"
#include "parallel/single.h"
#include "tests/core/io/temp_folder.h"
#include "trainer/evaluate.h"
#include "trainer/training.h"

namespace switchyard::trainer {
namespace {

using config::RunConfig;
using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using Overrides = std::vector<std::string>;

// Adam's second decay shows in the third step, a last decay of the rate in the fourth.
constexpr int kSteps = 4;

// A run of a few tokens. FOLDER is where its files are.
struct Base {
  const char* name;
  const char* model;
  const char* data = "sequence_length: 16 synthetic { num_tokens: 512 }";
  const char* train = "global_batch: 4";
  const char* optimizer = "";
};
const Base kBases[] = {
    {.name = "decoder",
     .model = R"(init_std: 0.2 num_layers: 2 d_model: 16 vocab_size: 40 attention { num_heads: 2 }
       moe { num_experts: 4 d_ff: 8 })",
     .train = "global_batch: 4 accumulation: 2",
     .optimizer = "warmup_steps: 0"},
    {.name = "dense_decoder",
     .model =
         R"(init_std: 0.2 num_layers: 2 d_model: 16 d_ff: 24 vocab_size: 40 norm: LAYER_NORM mtp {}
       attention { num_heads: 2 qk_norm: PER_HEAD yarn { original_length: 64 } head_dim: 16 })",
     .data = R"(sequence_length: 16
       synthetic { num_tokens: 512 kind: DOMAIN_BIGRAMS num_domains: 4 })",
     .optimizer = "kind: SGD momentum: 0.9 schedule: CONSTANT warmup_steps: 1"},
    {.name = "decoder_with_drops",
     .model = R"(num_layers: 3 d_model: 16 d_ff: 24 vocab_size: 40 norm: LAYER_NORM
       initializer: UNIFORM init_range: 0.2
       attention { num_heads: 2 position: RELATIVE_BIAS
                   relative_bias { num_buckets: 8 max_distance: 12 } }
       moe { num_experts: 4 top_k: 3 d_ff: 8 first_layer: 1 dead_expert_action: REINITIALIZE
         router { second_choice: AT_RANDOM init_std: 0 }
         capacity { policy: BY_POSITION train_factor: 0.72 eval_factor: 0.6 minimum: 1
                    max_group_tokens: 16 }
         shared_expert { sigmoid_gate: true } })",
     .train = "global_batch: 4 accumulation: 2",
     .optimizer = "schedule: INVERSE_SQRT warmup_steps: 1 decay_fraction: 0.5"},
    {.name = "device_budget",
     .model = R"(init_std: 0.2 num_layers: 2 d_model: 16 vocab_size: 40
       attention { num_heads: 2
                   latent { kv_rank: 8 q_rank: 8 rope_dim: 8 nope_dim: 4 value_dim: 4 } }
       moe { num_experts: 8 top_k: 3 d_ff: 8
         router { score: SIGMOID selection_bias: true bias_update_rate: 0.1 num_groups: 4
                  group_top_k: 2 }
         balance_loss { statistics: PER_SEQUENCE device_coefficient: 0.05
                        communication_coefficient: 0.02 }
         capacity { policy: DEVICE_BUDGET group_sequences: 2 } })",
     .train = "global_batch: 8",
     .optimizer = "schedule: CONSTANT_THEN_DECAY"},
    {.name = "two_levels",
     .model = R"(architecture: LSTM_LM init_std: 0.2 num_layers: 2 d_model: 16 vocab_size: 40
       dropout: 0.1 lstm { hidden: 20 sampled_softmax: 8 }
       moe { num_experts: 8 top_k: 4 d_ff: 8 ffn: RELU importance_loss_coefficient: 0.1
         router { hierarchy: TWO_LEVEL_BY_IMPORTANCE num_groups: 4 group_top_k: 2
                  noise: LEARNED_NOISE }
         capacity { policy: BY_POSITION minimum: 0 train_factor: 0.7 second_level_factor: 0.6 } })",
     .optimizer = "kind: ADAM_FACTORED_EXPERTS schedule: LINEAR"},
    {.name = "dense_LSTM",
     .model = "architecture: LSTM_LM init_std: 0.2 num_layers: 2 d_model: 16 vocab_size: 40"},
    {.name = "strictly_balanced_LSTM",
     .model = R"(architecture: LSTM_LM init_std: 0.2 num_layers: 2 d_model: 16 vocab_size: 40
       moe { num_experts: 4 top_k: 2 d_ff: 8 router { selection: STRICTLY_BALANCED }
             capacity { train_factor: 0.82 } })"},
    {.name = "encoder_decoder",
     .model = R"(architecture: ENCODER_DECODER num_layers: 3 d_model: 16 d_ff: 24 vocab_size: 40
       dropout: 0.1 attention { num_heads: 2 } initializer: TRUNCATED_NORMAL ffn: RELU
       moe { num_experts: 4 d_ff: 8 first_layer: 1 router { selection: EXPERT_CHOICE } })",
     .data = "sequence_length: 16 synthetic { num_tokens: 512 } spans { density: 0.3 }",
     .optimizer = "kind: ADAFACTOR adafactor { least_factored_dim: 16 }"},
    {.name = "hash",
     .model = R"(init_std: 0.2 num_layers: 2 d_model: 16 vocab_size: 40 attention { num_heads: 2 }
       moe { num_experts: 4 d_ff: 8 router { selection: HASH } })"},
    {.name = "next_free_expert",
     .model = R"(init_std: 0.2 num_layers: 2 d_model: 16 vocab_size: 40 attention { num_heads: 2 }
       moe { num_experts: 4 top_k: 1 d_ff: 8
             capacity { policy: NEXT_FREE fixed_slots: 5 rounds: 2 } })"},
    {.name = "text",
     .model = R"(init_std: 0.2 num_layers: 2 d_model: 16 vocab_size: 264 attention { num_heads: 2 }
       moe { num_experts: 4 d_ff: 8 router { selection: SINKHORN } balance_loss { coefficient: 0 }
             z_loss_coefficient: 0 })",
     .data = R"(sequence_length: 16 train { path: "FOLDER/a" } train { path: "FOLDER/b" }
       validation { path: "FOLDER/b" name: "held out" })"},
    {.name = "translation",
     .model = R"(architecture: ENCODER_DECODER num_layers: 1 d_model: 16 d_ff: 24 vocab_size: 264
       attention { num_heads: 2 })",
     .data = R"(sequence_length: 16 objective: TRANSLATION train { path: "FOLDER/a" })"},
    {.name = "local_experts",
     .model = "architecture: LOCAL_EXPERTS initializer: NORMAL",
     .data = R"(table { path: "FOLDER/t.csv" features: "F1" features: "F2" features: "F3" label: "V"
       classes: "a" classes: "b" classes: "c" group: "S" train_groups: 6 test_groups: 2 })"},
};

// A field whose effect needs more than a run of a few steps of float32 on one rank: it is tried
// with these changes too.
struct Setting {
  const char* path;
  Overrides changes;
};
const Setting kSettings[] = {
    {"model.norm_cast", {"runtime.compute=BF16", "optimizer.lr=3"}},
    {"model.moe.balance_loss.statistics", {"train.accumulation=2"}},
    {"model.moe.dead_expert_action", {"model.moe.num_experts=64", "log.dead_after_steps=1"}},
    {"model.moe.dead_expert_noise", {"model.moe.num_experts=64", "log.dead_after_steps=1"}},
    {"log.dead_after_steps",
     {"model.moe.num_experts=64", "model.moe.dead_expert_action=REINITIALIZE"}},
    {"data.train[0].weight", {"data.train[1].path=FOLDER/b"}},
    {"train.steps", {"optimizer.schedule=COSINE"}},
};

// Choices that are the same as another in some runs, by what they mean.
const std::map<std::string, std::string> kSame = {
    {"model.moe.router.weighting=RENORMALIZE_KEPT", "as RENORMALIZE, where nothing is dropped"},
    {"model.ffn=RELU", "as model.moe.ffn, where that is RELU"},
};

// Fields that must not change what is computed, and where what they do is tested.
const std::map<std::string, std::string> kElsewhere = {
    {"name", "the run's folder: run_errors_test"},
    {"output_dir", "the run's folder: run_errors_test"},
    {"data.train[0].name", "what messages call it: validate_test"},
    {"data.validation[0].name", "what reports call it: run_training_test"},
    {"model.moe.allow_future", "permits what is refused without it: validate_causality_test"},
    {"train.recompute", "memory against time: architectures_test"},
    {"train.stop_after_steps", "when the process ends: run_resume_test"},
    {"train.max_skipped_steps", "after non-finite losses: run_training_test"},
    {"train.stop_below_error", "when the run ends: run_architectures_test"},
    {"mesh.context", "no more than 1 is built: mesh_shape_test"},
    {"mesh.data", "the layout of ranks: training_test"},
    {"mesh.expert", "the layout of ranks: training_test"},
    {"mesh.tensor", "the layout of ranks: training_test"},
    {"mesh.pipeline", "the layout of ranks: training_test"},
    {"mesh.expert_tensor", "the layout of ranks: training_test"},
    {"optimizer.sharded", "what each rank keeps: training_test"},
    {"eval.every", "when to evaluate: run_resume_test"},
    {"checkpoint.every", "when to save: run_resume_test"},
    {"checkpoint.every_minutes", "when to save: run_resume_test"},
    {"checkpoint.asynchronous", "when the disk is waited for: run_background_save_test"},
    {"checkpoint.keep", "how many to keep: checkpoint_folder_test"},
    {"log.every", "when to print: run_training_test"},
    {"log.load_every", "when to record loads: run_metrics_test"},
    {"log.spike_sigmas", "when to speak of a spike: run_metrics_test"},
    {"log.straggler_factor", "when to name a slow rank: rank_times_test"},
    {"log.straggler_steps", "when to name a slow rank: rank_times_test"},
    {"runtime.threads", "speed: run_training_test"},
    {"runtime.check_memory", "whether a run may begin: run_memory_test"},
    {"runtime.timeout_seconds", "how long to wait for a rank: mpi_dist_test"},
    {"runtime.checked_collectives", "what ranks compare: thread_test"},
    {"runtime.float32_products", "the last bits: run_products_test"},
    {"runtime.bfloat16_products", "the last bits: run_products_test"},
};

// All scalars of the schema by their paths; of a list, its first element's.
void collect(const Descriptor& group, const std::string& prefix,
             std::map<std::string, const FieldDescriptor*>& fields) {
  for (int i = 0; i < group.field_count(); ++i) {
    const FieldDescriptor* field = group.field(i);
    const std::string path = prefix + field->name() + (field->is_repeated() ? "[0]" : "");
    if (config::is_group(*field))
      collect(*field->message_type(), path + ".", fields);
    else
      fields[path] = field;
  }
}

std::map<std::string, const FieldDescriptor*> all_fields() {
  std::map<std::string, const FieldDescriptor*> fields;
  collect(*RunConfig::descriptor(), "", fields);
  return fields;
}

// Values to try, among them small and large ones of either side of every default.
std::vector<std::string> candidates(const FieldDescriptor& field) {
  std::vector<std::string> values;
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_BOOL:
      return {"true", "false"};
    case FieldDescriptor::CPPTYPE_STRING:
      return {"x"};
    case FieldDescriptor::CPPTYPE_ENUM:
      for (int i = 1; i < field.enum_type()->value_count(); ++i)
        values.push_back(field.enum_type()->value(i)->name());
      return values;
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return {"0.3", "0", "1", "0.01", "1.7", "3", "16", "1000", "0.0005"};
    default:
      return {"2", "1", "3", "4", "0", "7", "8", "16", "24", "48", "1000"};
  }
}

// What one run computes, in stages, so that a difference is found early.
class Run {
 public:
  explicit Run(const RunConfig& config)
      : config_(with_tokenizer(config)),
        training_(config_, open_training_data(config_, *world_), *world_) {
    fill_first_weights(config_, training_.instance.parameters);
    training_.begin();
  }

  static constexpr int kStages = kSteps + 1;
  std::vector<double> stage(int index) {
    std::vector<double> values;
    if (index == kSteps) return evaluation();
    const StepOutcome result = training_.compute();
    training_.update(result);
    values = {result.loss, result.gradient_norm, result.learning_rate};
    append(result.stats, values);
    append(result.sums, values);
    return values;
  }

 private:
  static void append(const parallel::NamedSums& sums, std::vector<double>& values) {
    for (const auto& [name, sum] : sums) values.insert(values.end(), {sum.total, sum.weight});
  }
  static void append(const std::vector<models::RoutingStats>& stats, std::vector<double>& values) {
    for (const models::RoutingStats& s : stats) {
      values.insert(values.end(), s.load.begin(), s.load.end());
      for (const int64_t count : {s.tokens, s.slots, s.rejected, s.dropped})
        values.push_back(static_cast<double>(count));
      for (const models::RouterLossKind& kind : models::router_loss_kinds())
        values.push_back(s.losses[kind.loss]);
      values.push_back(s.router_entropy);
    }
  }

  // Of the weights that the run begins with.
  std::vector<double> evaluation() {
    ModelInstance instance(config_, *world_);
    instance.parameters.initialize(config_.seed());
    const bool text = reads_text(config_);
    const auto tokenizer = text ? load_tokenizer(config_.data().tokenizer()) : nullptr;
    const RunData data = open_data(config_, tokenizer.get());
    std::vector<double> values;
    for (const SourceResult& result :
         evaluate(config_, instance, data, tokenizer.get(), config_.eval().sequences())) {
      values.insert(values.end(), {result.loss, static_cast<double>(result.targets)});
      append(result.layers, values);
      append(result.sums, values);
    }
    return values;
  }

  std::unique_ptr<parallel::Communicator> world_ = parallel::make_single();
  RunConfig config_;
  Training training_;
};

// One base, and what it computes with some overrides.
class Comparison {
 public:
  Comparison(const Base& base, const TempFolder& folder) : folder_(folder.path()) {
    text_ = fmt::format("model {{ {} }} data {{ {} }} train {{ steps: {} {} }} optimizer {{ {} }}",
                        base.model, base.data, kSteps, base.train, base.optimizer);
    text_ = with_folder(text_);
  }

  std::optional<RunConfig> load(Overrides changes) const {
    for (std::string& change : changes) change = with_folder(change);
    try {
      return config::load_config_text(text_, "every_field.textproto", changes, {1});
    } catch (const ConfigError& error) {
      return std::nullopt;
    }
  }

  // Whether `change` computes something else than the base, both with `setting` too. What is
  // refused on opening the data counts as refused, that is, as something else.
  bool differs(const std::string& change, Overrides setting) {
    const auto base = load(setting);
    if (!base) return false;
    const std::vector<std::vector<double>>& expected = trace(*base, setting);
    setting.push_back(change);
    const auto config = load(setting);
    if (!config) return false;
    try {
      Run run(*config);
      for (int i = 0; i < Run::kStages; ++i)
        if (run.stage(i) != expected[static_cast<size_t>(i)]) return true;
    } catch (const std::exception& failure) {
      const auto* error = dynamic_cast<const Error*>(&failure);
      EXPECT_TRUE(error && error->code() != ExitCode::kBug) << change << ": " << failure.what();
      return true;
    }
    return false;
  }

 private:
  const std::vector<std::vector<double>>& trace(const RunConfig& config, const Overrides& setting) {
    auto& trace = traces_[fmt::format("{}", fmt::join(setting, " "))];
    if (!trace.empty()) return trace;
    Run run(config);
    for (int i = 0; i < Run::kStages; ++i) trace.push_back(run.stage(i));
    for (const std::vector<double>& stage : trace)  // else all would differ from it
      EXPECT_TRUE(std::ranges::all_of(stage, [](double v) { return std::isfinite(v); }));
    return trace;
  }

  std::string with_folder(std::string text) const {
    const std::string_view name = "FOLDER";
    for (size_t at; (at = text.find(name)) != std::string::npos;)
      text.replace(at, name.size(), folder_);
    return text;
  }

  std::string folder_, text_;
  std::map<std::string, std::vector<std::vector<double>>> traces_;
};

void write_files(const TempFolder& folder) {
  const auto tokenizer = make_byte_tokenizer();
  for (const std::string name : {"a", "b"}) {
    std::ofstream text(folder.file(name + ".txt"));
    for (int i = 0; i < 60; ++i)
      text << fmt::format("{}{} is {} by {}.\n\n", name, i, i * 7, i % 5);
    text.close();
    TokenizeOptions options;
    options.inputs = {folder.file(name + ".txt")};
    options.format = TextFormat::kParagraphs;
    options.out = folder.file(name);
    tokenize(options, *tokenizer, {});
  }
  std::ofstream table(folder.file("t.csv"));
  table << "S,V,F1,F2,F3\n";
  for (int i = 0; i < 60; ++i)
    table << fmt::format("s{},{},{},{},{}\n", i % 10, "abc"[i % 3], i % 3, i * 5 % 7, i % 4);
}

// Values of one field that are accepted and change nothing; of a number none if any value that is
// accepted changes something.
std::vector<std::string> idle_values(const std::string& path, const FieldDescriptor& field,
                                     Comparison& comparison) {
  const auto base = comparison.load({});
  std::vector<std::string> idle;
  const bool is_choice = field.cpp_type() == FieldDescriptor::CPPTYPE_ENUM ||
                         field.cpp_type() == FieldDescriptor::CPPTYPE_BOOL;
  for (const std::string& value : candidates(field)) {
    const std::string change = path + "=" + value;
    const auto config = comparison.load({change});
    if (!config || config->SerializeAsString() == base->SerializeAsString()) continue;
    if (kSame.contains(change)) continue;
    bool differs = comparison.differs(change, {});
    for (const Setting& setting : kSettings)
      if (!differs && setting.path == path) differs = comparison.differs(change, setting.changes);
    if (differs && !is_choice) return {};
    if (!differs) idle.push_back(value);
  }
  return idle;
}

class EveryField : public ::testing::TestWithParam<Base> {};

TEST_P(EveryField, IsRefusedOrChangesSomething) {
  at::set_num_threads(1);
  const TempFolder folder;
  write_files(folder);
  Comparison comparison(GetParam(), folder);
  ASSERT_TRUE(comparison.load({}));
  ASSERT_FALSE(comparison.differs("name=again", {}));
  for (const auto& [path, field] : all_fields()) {
    if (kElsewhere.contains(path)) continue;
    const std::vector<std::string> idle = idle_values(path, *field, comparison);
    EXPECT_TRUE(idle.empty()) << fmt::format("{}={} is accepted and changes nothing", path,
                                             fmt::join(idle, " or "));
  }
}

TEST(EveryFieldTables, NameFieldsOfTheSchema) {
  const auto fields = all_fields();
  for (const auto& [path, where] : kElsewhere) EXPECT_TRUE(fields.contains(path)) << path;
  for (const Setting& setting : kSettings)
    EXPECT_TRUE(fields.contains(setting.path)) << setting.path;
}

INSTANTIATE_TEST_SUITE_P(Runs, EveryField, ::testing::ValuesIn(kBases),
                         [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace switchyard::trainer
