// What is refused, and what only said, of routing that looks at later tokens.

#include <gmock/gmock.h>

#include "core/config/reader.h"
#include "core/config/validate.h"
#include "tests/core/config/config_files.h"

namespace switchyard::config {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class ValidateCausality : public ConfigFiles {
 protected:
  static std::vector<std::string> below_moe(std::vector<std::string> change) {
    for (std::string& field : change)
      if (!field.starts_with("model.")) field = "model.moe." + field;
    return change;
  }
  // The rules that break once `change` is set, below model.moe unless it says otherwise; 4 experts,
  // top 2.
  std::string broken(const std::vector<std::string>& change) {
    return error(kSmallRun, below_moe(change));
  }
  std::vector<std::string> warned(const std::vector<std::string>& change) {
    return warnings(load_config(run(kSmallRun), below_moe(change), {0}));
  }
};

TEST_F(ValidateCausality, RefusesWhatLooksAheadInEvaluation) {
  EXPECT_THAT(broken({"router.selection=EXPERT_CHOICE"}),
              HasSubstr("depends on later tokens, which a causal model must not see; use TOP_K"));
}

TEST_F(ValidateCausality, AllowsItWhereAskedAndSaysSo) {
  for (const std::string rule :
       {"router.selection=EXPERT_CHOICE", "capacity.policy=BATCH_PRIORITIZED"}) {
    EXPECT_EQ(broken({rule, "allow_future=true"}), "");
    EXPECT_THAT(warned({rule, "allow_future=true"}), ElementsAre(HasSubstr("losses are too good")));
  }
}

TEST_F(ValidateCausality, LeavesAnEncoderDecodersEncoderFree) {
  EXPECT_THAT(warned({"model.architecture=ENCODER_DECODER", "capacity.policy=BATCH_PRIORITIZED",
                      "top_k=1"}),
              IsEmpty());
  EXPECT_EQ(broken({"model.architecture=ENCODER_DECODER", "router.selection=EXPERT_CHOICE"}), "");
}

TEST_F(ValidateCausality, SaysWhatLooksAheadInTrainingAlone) {
  EXPECT_THAT(warned({"router.selection=SINKHORN"}),
              ElementsAre(HasSubstr("router.selection (SINKHORN): in training, later tokens")));
  EXPECT_THAT(warned({"router.selection=STRICTLY_BALANCED"}),
              ElementsAre(HasSubstr("router.selection (STRICTLY_BALANCED): in training")));
  EXPECT_THAT(warned({"router.selection=BALANCED_ASSIGNMENT", "top_k=1"}),
              ElementsAre(HasSubstr("router.selection (BALANCED_ASSIGNMENT): in training")));
  EXPECT_THAT(warned({"capacity.policy=DEVICE_BUDGET", "num_devices=2"}),
              ElementsAre(HasSubstr("capacity.policy (DEVICE_BUDGET): in training")));
  EXPECT_THAT(warned({"capacity.policy=AT_RANDOM_ORDER", "top_k=1"}),
              ElementsAre(HasSubstr("capacity.policy (AT_RANDOM_ORDER): in training")));
}

TEST_F(ValidateCausality, SaysThatLaterChoicesQueueBehindLaterTokens) {
  EXPECT_THAT(warned({"capacity.policy=BY_POSITION"}),
              ElementsAre(HasSubstr("wait behind the first choices of later tokens")));
  EXPECT_THAT(warned({"capacity.policy=NEXT_FREE", "top_k=1"}),
              ElementsAre(HasSubstr("raise eval_factor")));
}

TEST_F(ValidateCausality, SaysNothingOfWhatDoesNotLookAhead) {
  EXPECT_THAT(warned({}), IsEmpty());  // dropless
  EXPECT_THAT(warned({"top_k=1", "capacity.policy=BY_POSITION"}), IsEmpty());
  EXPECT_THAT(warned({"capacity.policy=BY_POSITION", "router.second_choice=NEVER"}), IsEmpty());
}

}  // namespace
}  // namespace switchyard::config
