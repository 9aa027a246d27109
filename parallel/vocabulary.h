#pragma once
// The loss of a vocabulary that is dealt over ranks: each has the logits of its own tokens alone,
// and three numbers of each row travel. Shoeybi et al. (2019), Megatron-LM, section 3.

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "core/tensor/vocabulary_loss.h"
#include "parallel/communicator.h"

namespace switchyard::parallel {

// CrossEntropyLoss of logits that lie next to each other in rank order, as many on each rank. Every
// rank has the same rows and targets, and gets the same loss.
class DealtCrossEntropyLoss : public CrossEntropyLoss {
 public:
  // targets, scale, z_coefficient: as for CrossEntropyLoss, over the whole vocabulary.
  DealtCrossEntropyLoss(const at::Tensor& targets_T, double scale, double z_coefficient,
                        Communicator& group);

  // **Collective.** logits [R, V / ranks]. Throws CheckError for a target outside the vocabulary.
  void add(const at::Tensor& logits_RV, int64_t first, bool with_gradient) override;

 private:
  // What the rows of all ranks come to, each [R].
  struct Rows {
    at::Tensor log_sum, of_target;
  };
  Rows over_all_ranks(const at::Tensor& logits_RV, const at::Tensor& own_target_R1,
                      const at::Tensor& is_own_R) const;

  Communicator* group_;
};

}  // namespace switchyard::parallel
