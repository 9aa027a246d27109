#pragma once
// Parameters: the unit from which everything follows. One table, filled by the model's constructor,
// says for each parameter its global name and shape, the slice this rank holds, who else holds the
// same slice, how it starts and whether weight decay applies. Gradient reduction, the optimizer,
// checkpoints, the census and the memory plan all read this table; nobody keeps a second list.
// Filling it allocates no tensor.

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <unordered_set>
#include <vector>

#include <ATen/core/Tensor.h>

namespace switchyard {

// Which ranks hold the same slice, hence over which ranks a gradient is summed.
enum class Replicas : uint8_t {
  kData,        // dense parameters: every rank that sees other tokens
  kExpertData,  // expert parameters: ranks that hold the same experts
};

struct Init {
  enum Kind : uint8_t {
    kNormal,
    kConstant,
    kTruncatedNormal,  // cut at +-`cut` standard deviations of the uncut normal
    kUniform,          // within +-value
  } kind = kNormal;
  double value = 0.02;  // standard deviation, the constant, or half the range
  double cut = 2;
  bool is_own = false;  // no rule for all matrices replaces it
  // The first so many rows are drawn narrower: times this factor.
  int64_t narrow_rows = 0;
  double narrow_by = 1;
};

// A contiguous part of one dimension: the experts this rank holds.
struct Slice {
  int64_t begin = 0, end = 0;
};

struct Parameter {
  // What optimizers may treat in their own way.
  enum class Role : uint8_t { kOther, kNormWeight, kEmbedding };

  std::string name;              // global: "layers.3.moe.experts.w2"; dots separate modules
  std::vector<int64_t> shape;    // global
  std::optional<Slice> experts;  // dimension 0 is the expert dimension and this rank holds these
  Init init;
  bool decay = true;
  Role role = Role::kOther;

  Replicas replicas() const { return experts ? Replicas::kExpertData : Replicas::kData; }
  std::vector<int64_t> local_shape() const;
  int64_t local_count() const;

  // Set by ParameterTable::allocate(); views into flat buffers.
  at::Tensor value;   // leaf in the compute type; ops read it. requires_grad() false: frozen
  at::Tensor master;  // float32 (float64 when computing in float64); the optimizer's truth
  at::Tensor grad;    // like master; ops accumulate into it in backward, autograd never does
};

// Parameters that are reduced and updated alike, contiguous in memory.
struct ParameterGroup {
  Replicas replicas;
  bool decay;
  std::vector<Parameter*> parameters;  // in table order; laid out one after another
  at::Tensor value, master, grad;  // [count] each; value aliases master when the types are equal

  void refresh_value();  // value <- master, after the optimizer's step
};

class ParameterTable {
 public:
  // Registers one more; the reference stays valid for the table's life. Names are unique.
  Parameter& add(Parameter parameter);

  // Allocates every group's flat buffers and the views, zeroes gradients. `compute` is bfloat16,
  // float32 or float64.
  void allocate(at::ScalarType compute);
  // Draws initial values: a function of (seed, name, global element), so that they do not depend on
  // the layout.
  void initialize(uint64_t seed);

  std::deque<Parameter>& parameters() { return parameters_; }
  const std::deque<Parameter>& parameters() const { return parameters_; }
  // Non-empty groups in a fixed order: {data, expert-data} x {decay, no decay}.
  std::vector<ParameterGroup>& groups() { return groups_; }
  void zero_gradients();

 private:
  std::deque<Parameter> parameters_;  // deque: add() must not move earlier ones
  std::unordered_set<std::string> names_;
  std::vector<ParameterGroup> groups_;
};

// Where in the tree of names a module stands: Scope(table) / "layers" / 3 / "moe".
class Scope {
 public:
  explicit Scope(ParameterTable& table) : table_(&table) {}
  Scope operator/(const std::string& name) const;
  Scope operator/(int64_t index) const { return *this / std::to_string(index); }

  // Registers <scope>.<name>.
  Parameter& parameter(const std::string& name, std::vector<int64_t> shape, Init init,
                       bool decay = true) const;
  // Same, for a stack of experts of which this rank holds `held`; shape[0] counts all experts.
  Parameter& expert_parameter(const std::string& name, std::vector<int64_t> shape, Slice held,
                              Init init, bool decay = true) const;

 private:
  ParameterTable* table_;
  std::string path_;
};

// The parameter as a tensor of autograd's graph, cast to `type`: its gradient is accumulated into
// parameter.grad. For small parameters and plain ATen code; the large products have ops that write
// their gradients in place.
at::Tensor use(Parameter& parameter, at::ScalarType type);
// The same of the master copy, where the compute type would hide small differences.
at::Tensor use_master(Parameter& parameter, at::ScalarType type);

}  // namespace switchyard
