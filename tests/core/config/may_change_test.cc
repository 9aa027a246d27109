// Which fields a run that goes on may have otherwise than before, over the whole schema.

#include <gmock/gmock.h>

#include "core/config/fields.h"
#include "core/config/print.h"
#include "tests/core/config/config_files.h"

namespace switchyard::config {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::Field;
using testing::UnorderedElementsAre;

// All scalars of the schema by their paths, in two lists.
struct Walk {
  std::vector<std::string> may, may_not;

  void over(const Descriptor& group, const std::string& prefix) {
    for (int i = 0; i < group.field_count(); ++i) {
      const FieldDescriptor& field = *group.field(i);
      const std::string path = prefix + field.name();
      if (is_group(field))
        over(*field.message_type(), path + ".");
      else
        (may_change_on_resume(field) ? may : may_not).push_back(path);
    }
  }
};

TEST(MayChange, OfAModelWhatIsNotInItsWeights) {
  Walk model;
  model.over(*Model::descriptor(), "");
  std::vector<std::string> may;
  for (const std::string& path : model.may)  // all of these two groups
    if (!path.starts_with("moe.capacity.") && !path.starts_with("moe.balance_loss."))
      may.push_back(path);
  EXPECT_THAT(
      may,
      UnorderedElementsAre(
          "dropout", "ffn_dropout", "attention.dropout", "output_z_loss_coefficient", "mtp.weight",
          "moe.z_loss_coefficient", "moe.importance_loss_coefficient", "moe.load_loss_coefficient",
          "moe.layer_aggregation", "moe.dead_expert_action", "moe.dead_expert_noise",
          "moe.expert_dropout", "moe.router.input_jitter", "moe.router.input_dropout",
          "moe.router.noise_std", "moe.router.second_choice", "moe.router.second_choice_threshold",
          "moe.router.later_choice_threshold", "moe.router.bias_update_rate"));
  EXPECT_THAT(model.may, testing::IsSupersetOf({"moe.capacity.eval_factor", "moe.capacity.policy",
                                                "moe.balance_loss.coefficient"}));
}

TEST(MayChange, OfTheRestWhatIsNotInItsTextOrMoments) {
  Walk run;
  for (int i = 0; i < RunConfig::descriptor()->field_count(); ++i) {
    const FieldDescriptor& field = *RunConfig::descriptor()->field(i);
    if (field.name() == "model") continue;
    if (is_group(field))
      run.over(*field.message_type(), field.name() + ".");
    else
      (may_change_on_resume(field) ? run.may : run.may_not).push_back(field.name());
  }
  std::erase_if(run.may_not, [](const std::string& path) {
    return path.starts_with("data.synthetic.") || path.starts_with("data.table.") ||
           path.starts_with("data.spans.");
  });
  EXPECT_THAT(
      run.may_not,
      UnorderedElementsAre("seed", "data.sequence_length", "data.objective", "data.target_length",
                           "data.attend_across_documents", "optimizer.kind", "optimizer.momentum",
                           "optimizer.adafactor.least_factored_dim", "runtime.compute"));
}

using MayChangeFiles = ConfigFiles;

// A group that appears is another model, though its fields may change.
TEST_F(MayChangeFiles, IsSaidOfEachDifference) {
  const RunConfig from = load_config(run(kSmallRun));
  const RunConfig to =
      load_config(run(kSmallRun), {"model.moe.balance_loss.coefficient=0.5", "model.mtp.weight=0.1",
                                   "model.moe.expert_dropout=0.1", "mesh.data=1"});
  const auto has = [](const char* path, const char* before, const char* after, bool may) {
    return AllOf(Field(&Difference::path, path), Field(&Difference::from, before),
                 Field(&Difference::to, after), Field(&Difference::may_change, may));
  };
  EXPECT_THAT(differences(from, to),
              ElementsAre(has("model.moe.expert_dropout", "0", "0.1", true),
                          has("model.moe.balance_loss.coefficient", "0.01", "0.5", true),
                          has("model.mtp.weight", "unset", "0.1", true),
                          has("model.mtp", "absent", "present", false),
                          has("mesh.data", "unset", "1", true)));
}

}  // namespace
}  // namespace switchyard::config
