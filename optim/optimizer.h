#pragma once
// What every optimizer is: an update of the parameter groups, and a state that checkpoints keep.

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "core/config/run_config.pb.h"
#include "core/tensor/parameter.h"
#include "parallel/mesh.h"

namespace switchyard::optim {

// One tensor of the state. It belongs to a parameter, is replicated, cut and dealt as that is, and
// may lack a dimension: the row means of a stack of experts [E, n, m] are [E, n].
struct StateTensor {
  std::string kind;  // "first_moment"; the tensor's name in a checkpoint is <kind>/<parameter>
  const Parameter* parameter;
  std::vector<Stretch> owned;  // what this rank has of its local elements, to be read or filled
  int missing_dim = -1;        // the one dimension of the parameter that it has not; -1: it has all
};

class Optimizer {
 public:
  // Borrows the groups, which must be allocated, must train and must outlive the optimizer, as the
  // mesh must.
  Optimizer(const config::Optimizer& options, std::span<ParameterGroup> groups,
            const parallel::Mesh& mesh);
  virtual ~Optimizer() = default;
  Optimizer(const Optimizer&) = delete;
  Optimizer& operator=(const Optimizer&) = delete;

  // One update with reduced gradients of L2 norm `gradient_norm`: clips, steps, refreshes the
  // compute values. Gradients are spent: their content is unspecified afterwards. **Collective**
  // over the axes that parameters are cut over, and those that groups are dealt over.
  void step(double learning_rate, double gradient_norm);

  // Factor by which clipping scales a gradient of this norm.
  double clip_factor(double gradient_norm) const;

  // Sets the decay of the steps to come, in place of the options'.
  void set_weight_decay(double decay) { options_.set_weight_decay(decay); }

  // Views of the whole state, in the same order on every rank; of what others own, without
  // stretches.
  virtual std::vector<StateTensor> state() = 0;
  int64_t num_steps() const { return num_steps_; }
  void set_num_steps(int64_t steps) { num_steps_ = steps; }

 protected:
  // Moves the masters that this rank owns by clipped gradients; num_steps() counts this update
  // already.
  virtual void update(double learning_rate) = 0;

  config::Optimizer options_;
  std::span<ParameterGroup> groups_;
  const parallel::Mesh* mesh_;

 private:
  int64_t num_steps_ = 0;
};

// The optimizer of options.kind.
std::unique_ptr<Optimizer> make_optimizer(const config::Optimizer& options,
                                          std::span<ParameterGroup> groups,
                                          const parallel::Mesh& mesh);
// The kinds that it chooses from, each in a file of its own.
std::unique_ptr<Optimizer> make_adamw(const config::Optimizer& options,
                                      std::span<ParameterGroup> groups, const parallel::Mesh& mesh);
std::unique_ptr<Optimizer> make_adafactor(const config::Optimizer& options,
                                          std::span<ParameterGroup> groups,
                                          const parallel::Mesh& mesh);
std::unique_ptr<Optimizer> make_sgd(const config::Optimizer& options,
                                    std::span<ParameterGroup> groups, const parallel::Mesh& mesh);

// Numbers that go with the masters that this rank owns of a group: zeros, in the same stretches.
std::vector<Stretch> zeros_beside(const ParameterGroup& group);
// Appends one StateTensor per parameter of the group: what `owned`, which lies beside the group's
// masters, has of it.
void append_parts(const char* kind, std::span<const Stretch> owned, const ParameterGroup& group,
                  std::vector<StateTensor>& state);

// Which parameters decay: norms' weights and token embeddings as decay_norms and decay_embeddings
// say, and as the model registered them where these are unset. Before the table is allocated, which
// puts what decays together.
void choose_weight_decay(const config::Optimizer& options, ParameterTable& table);

}  // namespace switchyard::optim
