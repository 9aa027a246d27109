// What of routers, capacity and their losses does not go together. Rules about one field stand
// together; the special choice is the field that must change, and the common one its remedy.

#include "core/config/compatibility.h"

namespace switchyard::config {
namespace {

constexpr const char* kTopK = "model.moe.top_k";
constexpr const char* kScore = "model.moe.router.score";
constexpr const char* kNoise = "model.moe.router.noise";
constexpr const char* kSelection = "model.moe.router.selection";
constexpr const char* kHierarchy = "model.moe.router.hierarchy";
constexpr const char* kNumGroups = "model.moe.router.num_groups";
constexpr const char* kSelectionBias = "model.moe.router.selection_bias";
constexpr const char* kSecondChoice = "model.moe.router.second_choice";
constexpr const char* kWeighting = "model.moe.router.weighting";
constexpr const char* kPolicy = "model.moe.capacity.policy";
constexpr const char* kFixedSlots = "model.moe.capacity.fixed_slots";
constexpr const char* kMaxGroupTokens = "model.moe.capacity.max_group_tokens";
constexpr const char* kBalance = "model.moe.balance_loss.coefficient";
constexpr const char* kLoad = "model.moe.balance_loss.load";
constexpr const char* kSecondPlace = "model.moe.balance_loss.second_place";
constexpr const char* kDeviceLoss = "model.moe.balance_loss.device_coefficient";
constexpr const char* kCommunicationLoss = "model.moe.balance_loss.communication_coefficient";
constexpr const char* kZLoss = "model.moe.z_loss_coefficient";
constexpr const char* kImportanceLoss = "model.moe.importance_loss_coefficient";
constexpr const char* kLoadLoss = "model.moe.load_loss_coefficient";
constexpr const char* kAggregation = "model.moe.layer_aggregation";
constexpr const char* kNumDevices = "model.moe.num_devices";
constexpr const char* kHiddenLayers = "model.moe.hidden_layers";
constexpr const char* kAllowFuture = "model.moe.allow_future";
constexpr const char* kArchitecture = "model.architecture";

constexpr Term kTwoLevels{kHierarchy, "not ONE_LEVEL"};
constexpr Term kNotTopK{kSelection, "not TOP_K"};
constexpr Term kNoRouter{kWeighting, "EQUAL"};
constexpr Term kPooled{kAggregation, "POOLED_LAYERS"};
constexpr Term kExpertsChoose{kSelection, "EXPERT_CHOICE or STRICTLY_BALANCED"};
constexpr const char* kAlwaysOne =
    "one expert of a token is kept, its weight is always 1, and the router would get no gradient";
constexpr const char* kBalanced = "every expert takes the same number of tokens";
constexpr const char* kOneGate = "the losses and rules of one gate do not know of a second";
constexpr const char* kOneChoice = "there is no second choice";
constexpr const char* kNothingToTrain = "there is no router to train";
constexpr const char* kNoSequences = "such groups need not be whole sequences";
constexpr const char* kWholeSequences = "leave it out, or set group_sequences in its place";
constexpr const char* kPlainMatrices = "only experts of plain matrices have several hidden layers";
constexpr const char* kOneHiddenLayer = "change it, or leave hidden_layers out";
constexpr const char* kTwoDevices = "set it, or router.num_groups";
constexpr const char* kUseTopK = "leave it out, or use selection TOP_K";

constexpr Rule kSelections[] = {
    Rule({kSelection, "not EXPERT_CHOICE"},
         {{kArchitecture, "not ENCODER_DECODER"}, {kAllowFuture, "false"}},
         "whether an expert takes a token depends on later tokens, which a causal model must not "
         "see",
         "use TOP_K, or set model.moe.allow_future: true to accept losses that are too good"),
    Rule({kTopK, "1"}, {{kSelection, "BALANCED_ASSIGNMENT"}}, "each token is given one expert",
         "set top_k: 1"),
    Rule({kScore, "not SOFTMAX_OVER_TOKENS"}, {{kSelection, "not EXPERT_CHOICE"}},
         "experts alone compare tokens", "use SOFTMAX"),
    Rule({kScore, "SOFTMAX"}, {{kSelection, "STRICTLY_BALANCED"}}),
    Rule({kSelectionBias, "false"}, kNotTopK, "a bias is added to the scores that TOP_K compares",
         kUseTopK),
    Rule({"model.moe.dead_expert_action", "not RAISE_BIAS"}, {{kSelectionBias, "false"}},
         "there is no bias to raise",
         "use REINITIALIZE, or set router.selection_bias where selection TOP_K allows it"),
    Rule({kNumGroups, "1"}, kNotTopK, "it does not go by scores within groups of experts",
         kUseTopK),
};

constexpr Rule kNoises[] = {
    Rule({kNoise, "NO_NOISE"}, kNotTopK, "noise is there to vary which experts are the best",
         kUseTopK),
    Rule({kNoise, "NO_NOISE"}, {{kScore, "SIGMOID"}},
         "the estimate of the load compares noisy logits", "leave it out, or use SOFTMAX"),
    Rule({kSelectionBias, "false"}, {{kNoise, "not NO_NOISE"}},
         "the estimate of the load knows no bias", "choose one of them"),
};

constexpr Rule kSecondChoices[] = {
    Rule({kSecondChoice, "ALWAYS"}, {{kTopK, "1"}}, kOneChoice, "leave it out, or raise top_k"),
    Rule({kSecondChoice, "ALWAYS"}, kNotTopK, "only choices of the best experts have an order",
         kUseTopK),
    Rule({kSecondChoice, "ALWAYS"}, {{kPolicy, "NEXT_FREE"}},
         "later choices stand in for the first"),
    Rule({kSecondChoice, "not SAMPLED_SECOND"}, {{kTopK, "at least 3"}}, "one choice is drawn",
         "set top_k to 2, or use selection SAMPLED to draw every choice"),
    Rule({kSecondChoice, "not SAMPLED_SECOND"}, {{kSelectionBias, "true"}},
         "it draws from the scores themselves", "leave one of them out"),
    Rule({kSecondChoice, "not SAMPLED_SECOND"}, {{kNumGroups, "above 1"}},
         "it draws from the scores themselves", "leave one of them out"),
};

constexpr Rule kWeightings[] = {
    Rule({kWeighting, "not RENORMALIZE"}, {{kTopK, "1"}},
         "the one weight is always 1 and the router would get no gradient", "use RAW"),
    Rule({kWeighting, "not RENORMALIZE_KEPT"},
         {{kTopK, "1"}, {kSelection, "not STRICTLY_BALANCED"}},  // where several may keep a token
         kAlwaysOne, "use RAW"),
    Rule({kWeighting, "not RENORMALIZE_KEPT"}, {{kPolicy, "NEXT_FREE"}}, kAlwaysOne, "use RAW"),
    Rule({kWeighting, "not RENORMALIZE_KEPT"}, {{kSecondChoice, "NEVER"}}, kAlwaysOne, "use RAW"),
    Rule({kWeighting, "not EQUAL"}, {{kSelection, "not HASH"}},
         "the router would choose by scores that get no gradient", "use RENORMALIZE or RAW"),
    Rule({kWeighting, "RAW"}, {{kSelection, "EXPERT_CHOICE"}},
         "a token may be chosen by any number of experts"),
    Rule({kWeighting, "RENORMALIZE_KEPT"}, {{kSelection, "STRICTLY_BALANCED"}},
         "which experts share a token is known only after the choice"),
};

constexpr Rule kCapacities[] = {
    Rule({kPolicy, "not BATCH_PRIORITIZED or BY_PROBABILITY"},
         {{kArchitecture, "not ENCODER_DECODER"},
          {kSelection, "not EXPERT_CHOICE or STRICTLY_BALANCED"},  // whose experts choose
          {kAllowFuture, "false"}},
         "whether a token finds room depends on the weights of later tokens, which a causal model "
         "must not see",
         "use BY_POSITION, or set model.moe.allow_future: true to accept losses that are too good"),
    Rule({kPolicy, "BY_PROBABILITY"}, kExpertsChoose,
         "each expert takes its best tokens, as many as its capacity"),
    Rule({kPolicy, "not NEXT_FREE"}, kNoRouter,
         "each weight would be 1 / rounds, for the one expert that a token gets",
         "set weighting: RAW, or use another policy"),
    Rule({kFixedSlots, "0"}, {{kPolicy, "DEVICE_BUDGET"}},
         "the budget is the devices', not the experts'"),
    Rule({"model.moe.capacity.group_sequences", "1"}, {{kMaxGroupTokens, "above 0"}},
         "the groups have one size or the other", "leave one of them out"),
    Rule({kMaxGroupTokens, "0"}, {{kPolicy, "DEVICE_BUDGET"}}, kNoSequences, kWholeSequences),
    Rule({kMaxGroupTokens, "0"}, {{"model.moe.balance_loss.statistics", "PER_SEQUENCE"}},
         kNoSequences, kWholeSequences),
};

constexpr Rule kLosses[] = {
    Rule({kBalance, "0"}, kNoRouter, kNothingToTrain),
    Rule({kZLoss, "0"}, kNoRouter, kNothingToTrain),
    Rule({kImportanceLoss, "0"}, kNoRouter, kNothingToTrain),
    Rule({kBalance, "0"}, {{kSelection, "EXPERT_CHOICE"}, {kArchitecture, "not ENCODER_DECODER"}},
         kBalanced),
    Rule(
        {kBalance, "0"},
        {{kSelection, "EXPERT_CHOICE"}, {kArchitecture, "ENCODER_DECODER"}, {kAllowFuture, "true"}},
        kBalanced),
    Rule({kBalance, "0"}, {{kSelection, "STRICTLY_BALANCED"}}, kBalanced),
    Rule({kDeviceLoss, "0"}, kExpertsChoose, kBalanced),
    Rule({kCommunicationLoss, "0"}, {{kSelection, "STRICTLY_BALANCED"}}, kBalanced),
    Rule({kImportanceLoss, "0"}, kExpertsChoose, kBalanced),
    Rule({kImportanceLoss, "0"}, {{kPolicy, "NEXT_FREE"}},
         "a token gets one of the experts it names", "use balance_loss"),
    Rule({kLoadLoss, "0"}, {{kNoise, "NO_NOISE"}}, "a counted load has no gradient",
         "set router.noise, or use balance_loss"),
    Rule({kLoadLoss, "0"}, {{kNumGroups, "above 1"}, {kHierarchy, "ONE_LEVEL"}},
         "the estimate of the load knows no groups", "use balance_loss"),
    Rule({kSecondPlace, "false"}, {{kTopK, "1"}}, kOneChoice),
    Rule({kLoad, "not UNBIASED_CHOICES"}, {{kSelectionBias, "false"}, {kNumGroups, "1"}},
         "there is no bias and there are no groups to leave out", "use ALL_CHOICES"),
    Rule({kAggregation, "not POOLED_LAYERS"}, {{kArchitecture, "not DECODER"}},
         "it does not pool its layers' tokens", "use SUM_OVER_LAYERS or MEAN_OVER_LAYERS"),
    Rule({kSecondPlace, "false"}, kPooled),
    Rule({kDeviceLoss, "0"}, kPooled),
    Rule({kCommunicationLoss, "0"}, kPooled),
    Rule({kNumDevices, "at least 2"}, {{kDeviceLoss, "above 0"}}, "it compares devices",
         kTwoDevices),
    Rule({kNumDevices, "at least 2"}, {{kCommunicationLoss, "above 0"}}, "it compares devices",
         kTwoDevices),
    Rule({kNumDevices, "at least 2"}, {{kPolicy, "DEVICE_BUDGET"}}, "each device has a budget",
         kTwoDevices),
};

constexpr Rule kHierarchies[] = {
    Rule({kHierarchy, "ONE_LEVEL"}, kNotTopK, "each gate chooses its best", kUseTopK),
    Rule({kNumGroups, "at least 2"}, {kTwoLevels, {kSelection, "TOP_K"}},
         "a gate chooses among groups", "set num_groups and group_top_k"),
    Rule({kScore, "SOFTMAX"}, kTwoLevels, kOneGate),
    Rule({"model.moe.router.precision", "ROUTER_FP32"}, kTwoLevels, kOneGate),
    Rule({kNoise, "not FIXED_NOISE"}, kTwoLevels, "no published two-level gate has it",
         "use LEARNED_NOISE or NO_NOISE"),
    Rule({kSelectionBias, "false"}, kTwoLevels, kOneGate),
    Rule({kSecondChoice, "ALWAYS"}, kTwoLevels, kOneGate),
    Rule({kPolicy, "not NEXT_FREE"}, kTwoLevels, kOneGate),
    Rule({kPolicy, "BY_POSITION or NO_DROP"}, {{kHierarchy, "TWO_LEVEL_BY_IMPORTANCE"}},
         "each level fills in the order of the tokens"),
    Rule({kFixedSlots, "0"}, {{kHierarchy, "TWO_LEVEL_BY_IMPORTANCE"}},
         "each level has a capacity by factors"),
    Rule({kLoad, "not UNBIASED_CHOICES"}, kTwoLevels, kOneGate),
    Rule({kZLoss, "0"}, kTwoLevels, kOneGate),
    Rule({kSecondPlace, "false"}, kTwoLevels, kOneGate),
    Rule({kDeviceLoss, "0"}, kTwoLevels, kOneGate),
    Rule({kCommunicationLoss, "0"}, kTwoLevels, kOneGate),
    Rule({kAggregation, "not POOLED_LAYERS"}, kTwoLevels, kOneGate),
};

constexpr Rule kExperts[] = {
    Rule({"model.moe.ffn", "RELU"}, {{kHiddenLayers, "above 1"}}, kPlainMatrices, kOneHiddenLayer),
    Rule({"model.ffn_bias", "NO_FFN_BIAS"}, {{kHiddenLayers, "above 1"}}, kPlainMatrices,
         kOneHiddenLayer),
    Rule({"model.moe.expert_dropout", "0"}, {{kHiddenLayers, "above 1"}}, kPlainMatrices,
         kOneHiddenLayer),
};

constexpr Topic kTopics[] = {
    {"Which experts are chosen", kSelections}, {"Noise", kNoises},
    {"Second choices", kSecondChoices},        {"Weights of the chosen", kWeightings},
    {"Capacity and drops", kCapacities},       {"Losses of the router", kLosses},
    {"Two levels of gates", kHierarchies},     {"Experts", kExperts},
};

}  // namespace

std::span<const Topic> routing_compatibility() { return kTopics; }

}  // namespace switchyard::config
