#include "core/config/mesh_shape.h"

#include <numeric>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/base/errors.h"
#include "core/config/layers.h"
#include "core/config/validate_rules.h"

namespace switchyard::config {
namespace {

// 0: the model has none, or does not say yet.
int num_experts(const Model& model) { return model.has_moe() ? model.moe().num_experts() : 0; }

// The degrees that an unset field leaves at 1.
int tensor_degree(const Mesh& asked) { return asked.has_tensor() ? asked.tensor() : 1; }
int expert_degree(const Mesh& asked) { return asked.has_expert() ? asked.expert() : 1; }
int pipeline_degree(const Mesh& asked) { return asked.has_pipeline() ? asked.pipeline() : 1; }
int expert_tensor_degree(const Mesh& asked) {
  return asked.has_expert_tensor() ? asked.expert_tensor() : 1;
}

// A product of degrees as people would write it, without those that are 1.
struct Product {
  std::string name;
  int value = 1;
};

Product product(const std::vector<Product>& degrees) {
  Product result;
  std::vector<std::string> names;
  for (const auto& [name, value] : degrees) {
    result.value *= value;
    if (value != 1) names.push_back(name);
  }
  result.name = fmt::format("{}", fmt::join(names, " times "));
  if (names.empty()) result.name = degrees.front().name;
  return result;
}

void check_at_least_one(const char* field, int degree, Findings& findings) {
  if (degree < 1) findings.add("mesh.{} ({}) must be at least 1; raise it", field, degree);
}

void check_signs(const Mesh& asked, Findings& findings) {
  if (asked.has_tensor()) check_at_least_one("tensor", asked.tensor(), findings);
  if (asked.has_data()) check_at_least_one("data", asked.data(), findings);
  if (asked.has_pipeline()) check_at_least_one("pipeline", asked.pipeline(), findings);
  if (asked.has_expert_tensor())
    check_at_least_one("expert_tensor", asked.expert_tensor(), findings);
  if (asked.has_context() && asked.context() != 1)
    findings.add(
        "mesh.context ({}) must be 1 or unset, as sequences are not dealt over ranks; for longer "
        "ones raise mesh.tensor, which deals the rows between matrices",
        asked.context());
}

// Of the axes that every layer outside experts is seen in.
void check_dense_degrees(const Mesh& asked, int ranks, Findings& findings) {
  const int data = asked.data();
  const Product others =
      product({{"mesh.tensor", tensor_degree(asked)}, {"mesh.pipeline", pipeline_degree(asked)}});
  if (ranks == 0 || others.value < 1) return;
  if (ranks % others.value != 0)
    findings.add(
        "{} ({}) must divide the number of ranks ({}); choose a divisor or start more ranks",
        others.name, others.value, ranks);
  else if (data >= 1 && data * others.value != ranks)
    findings.add(
        "mesh.data ({}) must be {}, the number of ranks ({}) divided by {} ({}), since "
        "ranks along data share the batch out; leave it out to follow the ranks",
        data, ranks / others.value, ranks, others.name, others.value);
}

// What ranks deal evenly among them.
struct Dealt {
  const char* name;
  int64_t count;
};

void check_dealt(const char* field, int degree, const std::vector<Dealt>& dealt,
                 Findings& findings) {
  for (const auto& [name, count] : dealt) {
    if (count % degree != 0)
      findings.add("mesh.{} ({}) must divide {} ({}); choose a divisor", field, degree, name,
                   count);
  }
}

void check_has_experts(const char* field, int degree, const Model& model, Findings& findings) {
  if (!model.has_moe() && degree > 1)
    findings.add(
        "mesh.{} ({}) must be 1 or unset, as the model has no experts; remove it or set model.moe",
        field, degree);
}

void refuse_architecture(const char* field, int degree, const Model& model, Findings& findings) {
  findings.add(
      "mesh.{} ({}) must be 1 or unset with model.architecture {}; use mesh.expert and mesh.data",
      field, degree, Architecture_Name(model.architecture()));
}

void check_expert_degree(int expert, const Model& model, Findings& findings) {
  if (expert < 1) return check_at_least_one("expert", expert, findings);
  check_has_experts("expert", expert, model, findings);
  check_dealt("expert", expert, {{"model.moe.num_experts", num_experts(model)}}, findings);
}

std::vector<Dealt> dealt_over_expert_tensor(const Model& model) {
  std::vector<Dealt> dealt = {{"model.moe.d_ff", model.moe().d_ff()}};
  if (model.attention().switch_projections())
    dealt.push_back({"model.d_model, the width that attention's experts read,", model.d_model()});
  return dealt;
}

void check_expert_tensor_degree(int degree, const Model& model, Findings& findings) {
  if (degree <= 1) return;
  check_has_experts("expert_tensor", degree, model, findings);
  if (!model.has_moe()) return;
  if (!has_attention(model)) return refuse_architecture("expert_tensor", degree, model, findings);
  check_dealt("expert_tensor", degree, dealt_over_expert_tensor(model), findings);
}

std::vector<Dealt> dealt_over_tensor(const Model& model) {
  std::vector<Dealt> dealt = {{"model.attention.num_heads", model.attention().num_heads()},
                              {"model.vocab_size", model.vocab_size()}};
  if (has_dense_ffn(model)) dealt.push_back({"model.d_ff", model.d_ff()});
  const SharedExpert& shared = model.moe().shared_expert();
  if (shared.count() > 0)
    dealt.push_back(
        {"model.moe.shared_expert.d_ff times its count", int64_t{shared.count()} * shared.d_ff()});
  return dealt;
}

// Whole heads to each rank, or one head to several ranks, a part of its rows each.
void check_kv_heads(int tensor, const Attention& attention, Findings& findings) {
  const int heads = attention.num_kv_heads(), dim = attention.head_dim();
  if (heads % tensor == 0) return;
  if (tensor % heads != 0)
    findings.add(
        "mesh.tensor ({}) must divide model.attention.num_kv_heads ({}) or be a multiple of it; "
        "choose another",
        tensor, heads);
  else if (dim % (tensor / heads) != 0)
    findings.add(
        "mesh.tensor ({}) divided by model.attention.num_kv_heads ({}) must divide "
        "model.attention.head_dim ({}), since so many ranks share a head; choose another",
        tensor, heads, dim);
}

void check_tensor_degree(int tensor, const Model& model, Findings& findings) {
  if (tensor <= 1) return;
  if (!has_attention(model)) return refuse_architecture("tensor", tensor, model, findings);
  check_dealt("tensor", tensor, dealt_over_tensor(model), findings);
  check_kv_heads(tensor, model.attention(), findings);
}

// Fields that ask for what the stages of a pipeline cannot do together, and what to do instead.
std::vector<std::pair<std::string, std::string>> against_pipeline(const Model& model) {
  std::vector<std::pair<std::string, std::string>> fields;
  if (!has_attention(model) || model.architecture() == ENCODER_DECODER)
    fields.emplace_back("model.architecture " + Architecture_Name(model.architecture()),
                        "its layers are not dealt over ranks; use mesh.expert and mesh.data");
  if (model.moe().layer_aggregation() == POOLED_LAYERS)
    fields.emplace_back("model.moe.layer_aggregation POOLED_LAYERS",
                        "its loss wants the loads of all layers before the first layer's backward; "
                        "choose SUM_OVER_LAYERS or MEAN_OVER_LAYERS");
  return fields;
}

void check_pipeline_degree(int pipeline, const Model& model, Findings& findings) {
  if (pipeline <= 1) return;
  for (const auto& [field, remedy] : against_pipeline(model))
    findings.add("mesh.pipeline ({}) must be 1 or unset with {}: {}", pipeline, field, remedy);
  if (model.has_num_layers() && pipeline > model.num_layers())
    findings.add(
        "mesh.pipeline ({}) must be at most model.num_layers ({}), as each stage holds a layer; "
        "lower it",
        pipeline, model.num_layers());
}

// The two views of a stage's ranks together.
void check_folding(const Mesh& asked, int ranks, Findings& findings) {
  const int pipeline = pipeline_degree(asked);
  const Product holders = product(
      {{"mesh.expert", expert_degree(asked)}, {"mesh.expert_tensor", expert_tensor_degree(asked)}});
  const Product stage =
      product({{"mesh.data", asked.data()}, {"mesh.tensor", tensor_degree(asked)}});
  if (holders.value < 1 || pipeline < 1) return;
  if (ranks > 0 && ranks % pipeline == 0 && ranks / pipeline % holders.value != 0)
    findings.add(
        "{} ({}) must divide the number of ranks ({}){}; choose a divisor or start more ranks",
        holders.name, holders.value, ranks / pipeline,
        pipeline > 1 ? fmt::format(" of each of mesh.pipeline's {} stages", pipeline) : "");
  else if (ranks == 0 && stage.value > 0 && stage.value % holders.value != 0)
    findings.add("{} ({}) must divide {} ({}); change one of them", holders.name, holders.value,
                 stage.name, stage.value);
}

}  // namespace

std::vector<std::string> mesh_problems(const Mesh& asked, const Model& model, int ranks) {
  Findings findings;
  check_signs(asked, findings);
  if (asked.has_expert()) check_expert_degree(asked.expert(), model, findings);
  check_folding(asked, ranks, findings);
  check_dense_degrees(asked, ranks, findings);
  check_tensor_degree(tensor_degree(asked), model, findings);
  check_pipeline_degree(pipeline_degree(asked), model, findings);
  check_expert_tensor_degree(expert_tensor_degree(asked), model, findings);
  return findings.lines;
}

MeshShape mesh_shape(const Mesh& asked, const Model& model, int ranks) {
  const std::vector<std::string> problems = mesh_problems(asked, model, ranks);
  if (!problems.empty()) throw ConfigError(fmt::format("{}", fmt::join(problems, "\n")));
  const int tensor = tensor_degree(asked), pipeline = pipeline_degree(asked);
  const int expert_tensor = expert_tensor_degree(asked), stage = ranks / pipeline;
  const int experts = num_experts(model);
  const int chosen = experts > 0 ? std::gcd(stage / expert_tensor, experts) : 1;
  return MeshShape({.data = stage / tensor,
                    .tensor = tensor,
                    .pipeline = pipeline,
                    .expert = asked.has_expert() ? asked.expert() : chosen,
                    .expert_tensor = expert_tensor});
}

}  // namespace switchyard::config
