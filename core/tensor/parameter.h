#pragma once
// Parameters: the unit from which everything follows. One table, filled by the model's constructor,
// says for each parameter its global name and shape, of which parts it is made, how it is dealt
// over the axes of parallelism, what it is for and how it starts. Gradient reduction, the
// optimizer, checkpoints, the census and the memory plan all read this table; nobody keeps a second
// list, and nobody guesses from names. Filling it allocates no tensor.

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include <ATen/core/Tensor.h>

#include "core/base/box.h"
#include "core/base/layout.h"
#include "core/tensor/dealing.h"

namespace switchyard {

struct Init {
  enum Kind : uint8_t {
    kNormal,
    kConstant,
    kTruncatedNormal,  // cut at +-`cut` standard deviations of the uncut normal
    kUniform,          // within +-value
  } kind = kNormal;
  double value = 0.02;  // standard deviation, the constant, or half the range
  double cut = 2;
  bool is_own = false;  // a rule for all matrices of the model does not replace this one
  double factor = 1;    // draws are times this, also under a rule for all matrices
};

// The module that a parameter belongs to. What treats some parameters in a way of its own (the
// census, weight decay, fine-tuning) asks for this.
enum class Role : uint8_t {
  kEmbedding,  // of tokens and of learned positions
  kAttention,  // the experts and routers of its projections included
  kLstm,
  kRouter,
  kExpert,
  kSharedExpert,
  kFfn,  // dense
  kNorm,
  kOutput,  // the matrix of the logits
  kGate,    // of local experts (1991)
  kOther,
};

// How a parameter's numbers meet a token's vector.
enum class Use : uint8_t {
  kMatrix,         // multiplied with it
  kTable,          // rows are looked up
  kScale,          // multiplied element by element
  kShift,          // added to something, or compared with it
  kSelectionBias,  // added to scores for the selection alone; a rule moves it, it has no gradient
};

// One of several tensors that are stored as one and multiplied in one product, such as "query",
// "key" and "value": so many indices of one dimension. The only part of a plain parameter has no
// name.
struct Part {
  std::string name;
  int64_t size = 0;
  Init init;
};

// Each part of dimension `dim` is dealt evenly over the ranks of the axis.
struct Cut {
  Axis axis;
  int dim;
};

// What a rank holds of one part.
struct Piece {
  size_t part;
  Box global, local;  // in the whole tensor, and in this rank's
};

// Neighbouring elements of a tensor, which are counted row by row.
struct Stretch {
  Slice range;
  at::Tensor values;  // [range.size()]; a view
};

// What lies in `range` of the stretches, which are in order, counted from its beginning.
std::vector<Stretch> stretches_within(std::span<const Stretch> stretches, const Slice& range);

// How far a parameter's gradient is in the current step.
struct GradientProgress {
  int64_t outstanding = 0;  // contributions that were announced and have not come
  bool is_complete = false;
};

class GradientSink;
struct ParameterGroup;

struct Parameter {
  std::string name;            // global: "layers.3.moe.experts.w2"; dots separate modules
  std::vector<int64_t> shape;  // global
  int part_dim = 0;            // the dimension that the parts are of
  std::vector<Part> parts;     // at least one; their sizes add up to that dimension
  std::vector<Cut> cuts;       // at most one per dimension
  Layout layout;               // this rank's
  Role role = Role::kOther;
  Use use = Use::kMatrix;
  bool decay = true;   // whether weight decay applies
  bool trains = true;  // false: no gradient, no moments, no reduction; the numbers stay
  Dealing dealing = Dealing::kWhole;  // of the master and what the optimizer keeps with it
  bool needs_whole_master = false;    // forward reads it: no parameter of its group is dealt
  // The axes over which the gradient is summed: their ranks hold the same pieces and see other
  // tokens, or other rows of them, or are stages that use the parameter in other layers. Of stages
  // the place in `layout` is that among the holders.
  AxisSet summed = {Axis::kData, Axis::kTensor};
  int64_t router = -1;         // the MoE layer that it belongs to, counted by routers; -1: none
  bool of_target = false;      // multiplied with the tokens of an encoder-decoder's target
  bool training_only = false;  // left out after training

  std::vector<int64_t> local_shape() const;
  int64_t local_count() const;
  // Of the group's flat buffers.
  Slice range() const { return {offset, offset + local_count()}; }
  // What this rank holds, in the order of the parts.
  std::vector<Piece> pieces() const;
  AxisSet cut_axes() const;
  // The experts that this rank holds, if dimension 0 counts experts.
  std::optional<Slice> experts() const;

  // Makes these numbers master and value. `exact` has those of the local elements in `range`, in
  // any shape and of the master's type.
  void store(const Slice& range, const at::Tensor& exact);
  // Makes it all of them: [local shape].
  void store(const at::Tensor& exact) { store({0, local_count()}, exact); }
  // Of the gradient, what this rank owns of the master: there it has the sum over ranks.
  std::vector<Stretch> owned_gradient() const;
  // To be filled and stored: the master itself where this rank has all of it, else a tensor that
  // was not there before.
  at::Tensor blank() const;

  // Set by ParameterTable::arrange().
  const ParameterGroup* group = nullptr;
  int64_t offset = 0;  // of the first element in the group's flat buffers

  // Set by ParameterTable::allocate(); views into flat buffers.
  at::Tensor value;   // leaf in the compute type, which ops read; requires_grad() if it trains
  at::Tensor master;  // float32 (float64 when computing in float64); the optimizer's truth.
                      // Undefined where this rank does not own all of it.
  at::Tensor grad;    // like master; ops accumulate into it in backward, autograd never does.
                      // Undefined where the parameter does not train.
  std::vector<Stretch> owned;    // of the master: what this rank owns of the local elements
  GradientSink* sink = nullptr;  // the table's: ops tell it of their contributions to `grad`
  GradientProgress progress;     // kept by the sink
};

// The part of a tensor of the parameter's local shape that the box in it covers; a view.
at::Tensor view_of(const at::Tensor& local, const Box& box);

// Parameters that are reduced and updated alike, contiguous in memory.
struct ParameterGroup {
  AxisSet summed, cut;  // of each parameter in it
  bool decay, trains;
  std::vector<Parameter*> parameters;  // in table order; laid out one after another
  Deal deal;
  // [deal.count] each; value and master share memory when their types are equal. grad is undefined
  // in a group that does not train, master in one that is dealt.
  at::Tensor value, master, grad;
  std::vector<Stretch> owned;  // of the master: what this rank owns; ranges of the flat buffers

  at::Tensor gradient_of(const Stretch& stretch) const {
    return grad.narrow(0, stretch.range.begin, stretch.range.size());
  }
};

// Knows when a gradient is complete. An operation that uses a parameter announces in forward that
// its backward will add to the parameter's gradient, and tells when it has; core/tensor/
// differentiable.h does both for every operation. A parameter with several uses (tied embeddings,
// several micro-batches) is complete after the last of them. Then its reduction may start while
// backward goes on.
class GradientSink {
 public:
  std::vector<std::function<void(Parameter&)>> listeners;  // to complete gradients

  void begin_step(std::deque<Parameter>& parameters);
  void announce(Parameter& parameter) { ++parameter.progress.outstanding; }
  void arrived(Parameter& parameter);
  // No announcement follows in this step.
  void end_forward(std::deque<Parameter>& parameters);

 private:
  void complete_if_nothing_is_outstanding(Parameter& parameter);

  bool forward_has_ended_ = false;
};

class ParameterTable {
 public:
  // Registers one more; the reference stays valid for the table's life. Throws CheckError for a
  // name that is there already, and for parts or cuts that do not fit the shape.
  Parameter& add(Parameter parameter);

  // Puts parameters into groups, without a tensor.
  void arrange();
  // Arranges them, allocates every group's flat buffers and the views, zeroes gradients. `compute`
  // is bfloat16, float32 or float64.
  void allocate(at::ScalarType compute);
  // Draws initial values: a function of (seed, name, global element), so that they do not depend on
  // the layout. Parameters whose master is dealt take turns in one tensor's room.
  void initialize(uint64_t seed);

  std::deque<Parameter>& parameters() { return parameters_; }
  const std::deque<Parameter>& parameters() const { return parameters_; }
  // Non-empty groups in a fixed order: those that train before the others, then by the axes that
  // gradients are summed over, then by those that parameters are cut over, then decayed before
  // others.
  std::vector<ParameterGroup>& groups() { return groups_; }
  std::span<ParameterGroup> trained_groups();

  // Of the model's parameters those that this table lacks, as other stages of a pipeline hold them.
  void set_elsewhere(std::set<std::string, std::less<>> names) { elsewhere_ = std::move(names); }
  bool is_elsewhere(std::string_view name) const { return elsewhere_.contains(name); }

  // Begins a step: no gradient has a contribution yet, and none was announced.
  void zero_gradients();
  // Says that the last forward pass of the step has run, so that a gradient for which nothing is
  // outstanding is complete. Between two calls of zero_gradients(), once.
  void end_forward();
  // From here on `listener` is called for each parameter that trains, once per step, when its
  // gradient is complete: in end_forward(), or in backward by the operation that makes the last
  // contribution. The order is the same on every rank, as the graph is. The latest listener is
  // called first, so that it may change what the others see.
  void on_gradient_ready(std::function<void(Parameter&)> listener);

 private:
  std::deque<Parameter> parameters_;  // deque: add() must not move earlier ones
  std::unordered_set<std::string> names_;
  std::set<std::string, std::less<>> elsewhere_;
  std::vector<ParameterGroup> groups_;
  std::unique_ptr<GradientSink> sink_ = std::make_unique<GradientSink>();  // parameters point to it
};

// Where in the tree of names a module stands, and what holds for all parameters below:
// (Scope(table, layout) / "layers" / 3 / "moe" / "experts").of_experts(8).
class Scope {
 public:
  explicit Scope(ParameterTable& table, const Layout& layout = {});

  Scope operator/(const std::string& name) const;
  Scope operator/(int64_t index) const { return *this / std::to_string(index); }
  // Each is the same place, for parameters with this property.
  Scope as(Role role) const { return with(&Parameter::role, role); }
  Scope of_router(int64_t router) const { return with(&Parameter::router, router); }
  Scope of_target(bool is = true) const { return with(&Parameter::of_target, is); }
  Scope training_only() const { return with(&Parameter::training_only, true); }
  // Shapes get a first dimension of so many experts, which are dealt over the expert axis.
  Scope of_experts(int64_t num_experts) const;
  // The parts of dimension `dim` of the shapes, in a scope of experts of each expert's, are dealt
  // over the ranks of the axis, where there is more than one.
  Scope cut(Axis axis, int dim) const;

  // Each registers <scope>.<name> with what holds here. The rows of a matrix may be parts.
  Parameter& matrix(const std::string& name, const std::vector<Part>& rows, int64_t columns) const {
    return add(name, rows, {columns}, Use::kMatrix);
  }
  Parameter& matrix(const std::string& name, const std::vector<int64_t>& shape,
                    const Init& init) const {
    return add_whole(name, shape, init, Use::kMatrix);
  }
  Parameter& table(const std::string& name, const std::vector<int64_t>& shape,
                   const Init& init) const {
    return add_whole(name, shape, init, Use::kTable);
  }
  // Without weight decay: scales and shifts of any shape, or of parts. A selection bias does not
  // train.
  Parameter& vector(const std::string& name, const std::vector<int64_t>& shape, Use use,
                    const Init& init) const {
    return add_whole(name, shape, init, use);
  }
  Parameter& vector(const std::string& name, const std::vector<Part>& parts, Use use) const {
    return add(name, parts, {}, use);
  }

  const Layout& layout() const { return pattern_.layout; }
  ParameterTable& parameters() const { return *table_; }  // of the whole model

 private:
  template <typename T>
  Scope with(T Parameter::*field, T value) const {
    Scope same = *this;
    same.pattern_.*field = value;
    return same;
  }
  // Of one expert: the parts are of its first dimension, `rest` has the sizes of the others.
  Parameter& add(const std::string& name, const std::vector<Part>& parts,
                 const std::vector<int64_t>& rest, Use use) const;
  Parameter& add_whole(const std::string& name, const std::vector<int64_t>& shape, const Init& init,
                       Use use) const {
    return add(name, {{"", shape[0], init}}, {shape.begin() + 1, shape.end()}, use);
  }

  ParameterTable* table_;
  Parameter pattern_;        // each parameter starts as a copy; its name is this place's
  int64_t num_experts_ = 0;  // 0: no dimension of experts
};

}  // namespace switchyard
