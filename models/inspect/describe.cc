#include "models/inspect/describe.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "core/base/errors.h"
#include "core/base/grouped.h"
#include "core/config/fields.h"
#include "core/config/layers.h"
#include "core/config/mesh_shape.h"
#include "models/inspect/cost.h"
#include "models/inspect/memory.h"
#include "models/inspect/stages.h"
#include "models/inspect/traffic.h"

namespace switchyard::models {
namespace {

using Json = nlohmann::ordered_json;

std::string layers_text(const config::Model& model) {
  const int layers = model.num_layers(), moe_layers = config::num_lasting_moe_layers(model);
  switch (model.architecture()) {
    case config::LSTM_LM:
      return fmt::format("{} LSTM layers of {} cells ({} with experts)", layers,
                         model.lstm().hidden(), moe_layers);
    case config::ENCODER_DECODER:
      return fmt::format("{0} encoder and {0} decoder layers ({1} MoE, {2} dense)", layers,
                         moe_layers, 2 * layers - moe_layers);
    default:
      return fmt::format("{} layers ({} MoE, {} dense)", layers, moe_layers, layers - moe_layers);
  }
}

std::string local_experts_line(const config::Model& model) {
  const config::LocalExperts& experts = model.local_experts();
  const std::string hidden = experts.hidden_units() > 0
                                 ? fmt::format("of {} hidden units", experts.hidden_units())
                                 : "without a hidden layer";
  return fmt::format("{} expert(s) {}{}; {} features, {} classes", experts.num_experts(), hidden,
                     experts.num_experts() > 1 ? ", blended by a gate" : "", model.d_model(),
                     model.vocab_size());
}

std::string model_line(const config::Model& model) {
  if (model.architecture() == config::LOCAL_EXPERTS) return local_experts_line(model);
  std::string line = fmt::format("{}, d_model {}", layers_text(model), model.d_model());
  const config::Attention& attention = model.attention();
  if (config::has_attention(model))
    line += fmt::format(", {} heads ({} key/value) of {}", attention.num_heads(),
                        attention.num_kv_heads(), attention.head_dim());
  line += fmt::format(", vocabulary {}", model.vocab_size());
  if (model.has_moe())
    line +=
        fmt::format("; {} {} experts of width {}, {} per token", model.moe().num_experts(),
                    config::Ffn_Name(model.moe().ffn()), model.moe().d_ff(), model.moe().top_k());
  if (model.has_mtp()) line += "; one more layer in training, for multi-token prediction";
  return line;
}

// Whether the size of a step is known, of which a preset alone says nothing.
bool has_batch(const config::RunConfig& config) { return config.train().has_global_batch(); }

int64_t tokens_per_step(const config::RunConfig& config) {
  return int64_t{config.train().global_batch()} * config.data().sequence_length();
}

std::string census_text(const Census& counts) {
  std::string text = fmt::format("{:<22}{:>22}{:>22}\n", "parameters", "total", "active per token");
  const auto line = [&](const Component& part, const char* remark = "") {
    text += fmt::format("  {:<20}{:>22}{:>22}{}\n", part.name, grouped(part.total),
                        grouped(part.active), remark);
  };
  for (const Component& part : counts.components) line(part);
  line({"all", counts.total, counts.active});
  if (counts.training_only.total > 0) line(counts.training_only, "  (in training, not in the sum)");
  return text;
}

std::string flops_text(const config::RunConfig& config) {
  const SequenceLengths lengths = sequence_lengths(config);
  std::string text = fmt::format("{:<22}{:>22}  (sequences of {})\n",
                                 lengths.target > 0 ? "FLOP per source token" : "FLOP per token",
                                 "forward", lengths.sequence);
  for (const FlopTerm& term : forward_flops(config.model(), lengths))
    text += fmt::format("  {:<20}{:>22}\n", term.name, grouped(static_cast<int64_t>(term.flops)));
  const double train = flops_per_token(config.model(), lengths);
  return text + fmt::format("  {:<20}{:>22}\n  {:<20}{:>22}  (3 x forward)\n", "all",
                            grouped(static_cast<int64_t>(train / 3)), "training",
                            grouped(static_cast<int64_t>(train)));
}

// "0.3, 0.1 from 1,000 tokens on, by a cosine to 0 at 2,000 tokens"
std::string schedule_words(const config::RunConfig& config, const config::ValueSchedule& schedule) {
  std::string words = fmt::format("{}", config::number_at(config, schedule.field()).value_or(0));
  for (const config::SchedulePoint& point : schedule.point()) {
    const std::string place = point.has_tokens() ? fmt::format("{} tokens", grouped(point.tokens()))
                                                 : fmt::format("step {}", grouped(point.step()));
    const char* gradually = point.approach() == config::LINEARLY    ? "linearly"
                            : point.approach() == config::BY_COSINE ? "by a cosine"
                                                                    : nullptr;
    words += gradually ? fmt::format(", {} to {} at {}", gradually, point.value(), place)
                       : fmt::format(", {} from {} on", point.value(), place);
  }
  return words;
}

// Coefficients that are 0 at first take the first value above that of their schedules.
config::RunConfig with_later_losses(config::RunConfig config) {
  for (const config::ValueSchedule& schedule : config.schedule()) {
    const auto value = config::number_at(config, schedule.field());
    const auto later = std::ranges::find_if(
        schedule.point(), [](const config::SchedulePoint& point) { return point.value() > 0; });
    if (value == 0 && later != schedule.point().end())
      config::set_real_at(config, schedule.field(), later->value());
  }
  return config;
}

// "45 minute(s)", "3.2 hours", "12 days"
std::string duration(double seconds) {
  if (seconds < 2 * 3600) return fmt::format("{:.0f} minute(s)", std::ceil(seconds / 60));
  if (seconds < 72 * 3600) return fmt::format("{:.1f} hours", seconds / 3600);
  return fmt::format("{:.0f} days", seconds / 86400);
}

// Without a batch nothing is known of activations.
MemoryPlan known_memory(const config::RunConfig& config, const MeshShape& mesh) {
  if (has_batch(config)) return memory_plan(config, mesh);
  std::vector<Memory> stages;
  for (const Slice& held : stage_layers(config, mesh.size(Axis::kPipeline)))
    stages.push_back(memory_per_rank(config, mesh, static_cast<int>(stages.size()), held));
  return {*std::ranges::max_element(stages, {}, &Memory::total_bytes)};
}

std::string memory_text(const config::RunConfig& config, const MeshShape& mesh) {
  const MemoryPlan plan = known_memory(config, mesh);
  const std::string batch =
      has_batch(config)
          ? fmt::format("batch   {} sequences of {} = {} tokens per step, {} micro-batch(es)\n",
                        config.train().global_batch(), config.data().sequence_length(),
                        grouped(tokens_per_step(config)), config.train().accumulation())
          : "";
  return fmt::format("{}\nmemory of a rank{}; it has {} parameters\n{}\n", batch,
                     has_batch(config) ? " at its peak, by estimate" : ", without activations",
                     grouped(plan.parameters.parameters), describe_memory(config, plan));
}

// What a rank sends, if it has others to send to.
std::string traffic_text(const config::RunConfig& config, const MeshShape& mesh, int node_ranks) {
  const std::vector<TrafficTerm> terms =
      has_batch(config) ? traffic_per_step(config, mesh) : std::vector<TrafficTerm>{};
  if (terms.empty()) return "";
  std::string text = fmt::format("sent by a rank in a step, with {} ranks to a node\n", node_ranks);
  for (const TrafficTerm& term : terms)
    text += fmt::format("  {:<28}{:>14}  (over {}; {:.0f}% to other nodes)\n", term.name,
                        format_bytes(term.bytes), words_of(term.axis).name,
                        100 * share_between_nodes(mesh, term.axis, node_ranks));
  return text + "\n";
}

Json traffic_json(const config::RunConfig& config, const MeshShape& mesh, int node_ranks) {
  Json list = Json::array();
  for (const TrafficTerm& term : traffic_per_step(config, mesh)) {
    list.push_back({{"name", term.name},
                    {"axis", words_of(term.axis).name},
                    {"bytes", term.bytes},
                    {"messages", term.messages},
                    {"share_between_nodes", share_between_nodes(mesh, term.axis, node_ranks)}});
  }
  return list;
}

std::string inspect_text(const config::RunConfig& config, const MeshShape& mesh,
                         const Assumed& assumed) {
  const double product_rate = assumed.product_rate;
  std::string text =
      fmt::format("run     {}\nmodel   {}\n\n", config.name(), model_line(config.model()));
  text += census_text(census(config.model())) + "\n" + flops_text(config) + "\n";
  const std::string degrees = degrees_text(mesh);
  text +=
      fmt::format("mesh    {} rank(s){}{}\n", mesh.ranks(), degrees.empty() ? "" : ": ", degrees);
  if (const int stages = mesh.size(Axis::kPipeline); stages > 1)
    text += describe_stages(config, stages) + "\n";
  text += memory_text(config, mesh) + traffic_text(config, mesh, assumed.node_ranks);
  if (product_rate > 0)
    text += fmt::format(
        "time    about {} for {} steps: an estimate, from {:.0f} GFLOP/s of plain matrix products "
        "on this machine\n\n",
        duration(estimated_seconds(config, product_rate)), grouped(config.train().steps()),
        product_rate * 1e-9);
  else if (has_batch(config))
    text +=
        "time    no estimate before `switchyard doctor` has measured products on this machine\n\n";
  text += "loss = the sum of\n" + describe_losses(config);
  const std::string schedules = describe_schedules(config);
  return schedules.empty() ? text : text + "\nin the course of the run\n" + schedules;
}

Json parameters_json(const Census& counts) {
  Json components = Json::object();
  for (const Component& part : counts.components)
    components[part.name] = {{"total", part.total}, {"active", part.active}};
  Json json = {{"total", counts.total}, {"active", counts.active}, {"components", components}};
  const Component& extra = counts.training_only;
  if (extra.total > 0)
    json["training_only"] = {{extra.name, {{"total", extra.total}, {"active", extra.active}}}};
  return json;
}

Json memory_json(const config::RunConfig& config, const MeshShape& mesh) {
  const MemoryPlan plan = known_memory(config, mesh);
  const Memory& kept = plan.parameters;
  Json json = {{"parameters", kept.parameters},
               {"value_bytes", kept.value_bytes},
               {"master_bytes", kept.master_bytes},
               {"gradient_bytes", kept.gradient_bytes},
               {"moment_bytes", kept.moment_bytes}};
  if (has_batch(config)) {
    json["activation_bytes"] = std::llround(plan.activations);
    json["transient_bytes"] = std::llround(plan.transient);
    json["saving_bytes"] = std::llround(plan.saving);
    json["batch_bytes"] = std::llround(plan.batches);
    json["library_bytes"] = std::llround(plan.program);
  }
  json["total_bytes"] = std::llround(plan.total());
  return json;
}

Json inspect_json(const config::RunConfig& config, const MeshShape& mesh, const Assumed& assumed) {
  const SequenceLengths lengths = sequence_lengths(config);
  Json forward = Json::object(), terms = Json::array();
  Json degrees = {{"ranks", mesh.ranks()}};
  for (const Axis axis : kAllAxes) degrees[words_of(axis).name] = mesh.size(axis);
  for (const FlopTerm& term : forward_flops(config.model(), lengths))
    forward[term.name] = term.flops;
  for (const LossTerm& term : losses(config))
    terms.push_back({{"name", term.name}, {"formula", term.formula}, {"detail", term.detail}});
  Json schedules = Json::object();
  for (const config::ValueSchedule& schedule : config.schedule())
    schedules[schedule.field()] = schedule_words(config, schedule);
  Json page = {
      {"name", config.name()},
      {"parameters", parameters_json(census(config.model()))},
      {"sequence_length", config.data().sequence_length()},
      {"flops_per_token", flops_per_token(config.model(), lengths)},
      {"forward_flops_per_token", forward},
      {"tokens_per_step", has_batch(config) ? Json(tokens_per_step(config)) : Json(nullptr)},
      {"mesh", degrees},
      {"memory_per_rank", memory_json(config, mesh)},
      {"losses", terms},
      {"schedules", schedules}};
  if (has_batch(config)) page["traffic_per_step"] = traffic_json(config, mesh, assumed.node_ranks);
  if (assumed.product_rate > 0)
    page["estimated_seconds"] = estimated_seconds(config, assumed.product_rate);
  return page;
}

LossTerm error_of_experts(const config::LocalExperts& experts) {
  const char* error = experts.error() == config::COOPERATIVE ? "|d - sum_i p_i o_i|^2"
                      : experts.error() == config::COMPETITIVE
                          ? "sum_i p_i |d - o_i|^2"
                          : "-log sum_i p_i exp(-|d - o_i|^2 / 2)";
  return {"error",
          fmt::format("mean over all cases of the step of {}", error),
          {fmt::format("d: one-hot class; o_i, p_i: output and gate of expert i of {}",
                       experts.num_experts())}};
}

LossTerm main_loss(const config::RunConfig& config) {
  const config::Model& model = config.model();
  if (model.architecture() == config::LOCAL_EXPERTS) return error_of_experts(model.local_experts());
  const char* given = model.architecture() == config::ENCODER_DECODER
                          ? "the source and the earlier tokens of the target"
                      : config.data().attend_across_documents()
                          ? "the earlier tokens of the row, other documents' too"
                          : "the earlier tokens of the document";
  LossTerm term{"lm",
                "mean over all target tokens of the step of -log p(target)",
                {fmt::format("p = softmax over the vocabulary of {}, given {}; natural logarithm",
                             model.vocab_size(), given)}};
  if (has_batch(config))
    term.detail.push_back(fmt::format("the step is {} sequences over all ranks and micro-batches",
                                      config.train().global_batch()));
  if (model.lstm().sampled_softmax() > 0)
    term.detail.push_back(fmt::format(
        "in training p is estimated over the target and {} sampled words (importance sampling)",
        model.lstm().sampled_softmax()));
  return term;
}

void add_output_losses(const config::Model& model, std::vector<LossTerm>& terms) {
  if (model.has_mtp())
    terms.push_back(
        {"mtp",
         fmt::format("{} * sum over the step of -log p(token after the next), over the number of "
                     "target tokens",
                     model.mtp().weight()),
         {"p = softmax over the vocabulary, of one more layer that is given the next token too; "
          "none where the document ends before that token"}});
  if (model.output_z_loss_coefficient() > 0)
    terms.push_back({"output_z",
                     fmt::format("{} * mean over all target tokens of the step of "
                                 "logsumexp(output logits)^2",
                                 model.output_z_loss_coefficient()),
                     {}});
}

}  // namespace

std::vector<LossTerm> losses(const config::RunConfig& resolved) {
  const config::RunConfig config = with_later_losses(resolved);
  std::vector<LossTerm> terms = {main_loss(config)};
  add_output_losses(config.model(), terms);
  add_router_losses(config, terms);
  return terms;
}

std::string describe_losses(const config::RunConfig& config) {
  std::string text;
  for (const LossTerm& term : losses(config)) {
    text += fmt::format("  {:<7} = {}\n", term.name, term.formula);
    for (const std::string& line : term.detail) text += fmt::format("            {}\n", line);
  }
  return text;
}

std::string describe_schedules(const config::RunConfig& config) {
  std::string text;
  for (const config::ValueSchedule& schedule : config.schedule())
    text += fmt::format("  {} = {}\n", schedule.field(), schedule_words(config, schedule));
  return text;
}

std::string inspect_config(const config::RunConfig& config, int ranks, bool json,
                           const Assumed& assumed) {
  const MeshShape mesh = config::mesh_shape(config.mesh(), config.model(), ranks);
  return json ? inspect_json(config, mesh, assumed).dump(2) + "\n"
              : inspect_text(config, mesh, assumed);
}

}  // namespace switchyard::models
