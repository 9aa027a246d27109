// Every row of the table of what does not go together: that a config against it is refused in the
// row's words, and accepted once repaired; and that the page of documentation is made from the
// table.

#include "core/config/compatibility.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <sstream>

#include <fmt/ranges.h>
#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>

#include "core/config/defaults.h"
#include "core/config/fields.h"
#include "core/config/overrides.h"
#include "core/config/validate.h"
#include "tests/core/config/config_files.h"

namespace switchyard::config {
namespace {

using testing::HasSubstr;

std::vector<Topic> topics() {
  std::vector<Topic> all;
  for (const auto part : {model_compatibility(), routing_compatibility()})
    all.insert(all.end(), part.begin(), part.end());
  return all;
}

std::vector<Rule> rules() {
  std::vector<Rule> all;
  for (const Topic& topic : topics()) all.insert(all.end(), topic.rules.begin(), topic.rules.end());
  return all;
}

std::vector<Term> terms(const Rule& rule) {
  std::vector<Term> all{rule.field};
  for (const Term& term : rule.with.all)
    if (term.path != nullptr) all.push_back(term);
  return all;
}

const FieldDescriptor& field_at(const std::string& path) {
  const Descriptor* group = RunConfig::descriptor();
  for (size_t from = 0;;) {
    const size_t dot = path.find('.', from);
    const FieldDescriptor* field = group->FindFieldByName(path.substr(from, dot - from));
    if (field == nullptr) throw std::logic_error("no field " + path);
    if (dot == std::string::npos) return *field;
    group = field->message_type();
    from = dot + 1;
  }
}

void make_group(Message& message, const std::string& path) {
  const size_t dot = path.find('.');
  const auto* field = message.GetDescriptor()->FindFieldByName(path.substr(0, dot));
  Message& group = *message.GetReflection()->MutableMessage(&message, field);
  if (dot != std::string::npos) make_group(group, path.substr(dot + 1));
}

// Values that rules may tell apart, as --set takes them.
std::vector<std::string> candidates(const FieldDescriptor& field) {
  std::vector<std::string> values;
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_ENUM:
      for (int i = 1; i < field.enum_type()->value_count(); ++i)
        values.push_back(field.enum_type()->value(i)->name());
      return values;
    case FieldDescriptor::CPPTYPE_BOOL:
      return {"true", "false"};
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return {"0.5", "0", "1", "2"};
    case FieldDescriptor::CPPTYPE_STRING:
      return {"none", "bytes"};
    default:
      return {"1", "2", "3", "4", "0"};
  }
}

// Changes the config such that the term holds, or does not.
void make(const Term& term, bool hold, RunConfig& config) {
  const FieldDescriptor& field = field_at(term.path);
  const std::string wanted = term.wanted;
  if (wanted == "set" || wanted == "unset") {
    if ((wanted == "set") != hold)
      clear_at(config, term.path);
    else if (is_group(field))
      make_group(config, term.path);
    else
      EXPECT_EQ(apply_override(config, term.path + ("=" + candidates(field)[0])), "");
    return;
  }
  for (const std::string& value : candidates(field)) {
    EXPECT_EQ(apply_override(config, term.path + ("=" + value)), "");
    if (holds(term, config) == hold) return;
  }
  ADD_FAILURE() << term.path << " " << wanted << ": no value by which this is " << hold;
}

std::vector<std::string> problems_of(const RunConfig& given) {
  RunConfig filled = given;
  apply_defaults(filled);
  return problems(filled, 0);
}

// What makes a field have a meaning, or be sound.
constexpr std::pair<std::string_view, const char*> kCompanions[] = {
    {"model.moe.capacity.max_group_tokens", "model.moe.capacity.policy=BY_POSITION"},
    {"model.moe.balance_loss.communication_coefficient", "model.moe.router.num_groups=2"},
    {"model.moe.balance_loss.communication_coefficient", "model.moe.router.group_top_k=1"},
    {"model.moe.router.num_groups", "model.moe.router.group_top_k=1"},
};

// A sound config in which the circumstances of the rule are then made to hold.
RunConfig circumstances(const Rule& rule) {
  const bool of_table = std::ranges::any_of(rule.with.all, [](const Term& term) {
    return term.path != nullptr &&
           (term.wanted == std::string("LOCAL_EXPERTS") || term.path == std::string("data.table"));
  });
  RunConfig config;
  google::protobuf::TextFormat::ParseFromString(of_table ? kTableRun : kSmallRun, &config);
  config.set_name("run");
  for (const Term& term : terms(rule))
    for (const auto& [path, companion] : kCompanions) {
      if (term.path != path) continue;
      EXPECT_EQ(apply_override(config, companion), "");
    }
  for (const Term& term : rule.with.all)
    if (term.path != nullptr) make(term, true, config);
  return config;
}

// Does what the message asks for, if by another field than those that `kept` speaks of.
void mend(const std::string& message, const Rule& kept, RunConfig& config) {
  RunConfig filled = config;
  apply_defaults(filled);
  // A term that speaks of a group speaks of what is in it.
  const auto is_free = [&](const Term& term) {
    return std::ranges::none_of(terms(kept), [&](const Term& other) {
      return (std::string(other.path) + ".").starts_with(std::string(term.path) + ".");
    });
  };
  for (const Rule& rule : rules()) {
    if (broken_by(rule, filled) != message) continue;
    for (const Term& term : terms(rule))
      if (is_free(term)) return make(term, term.path == rule.field.path, config);
    return;
  }
  const std::string path = message.substr(0, message.find(' '));
  if (path == "data.train")
    EXPECT_EQ(apply_override(config, "data.train[0].path=text"), "");
  else if (message.find("is not set") != std::string::npos)
    EXPECT_EQ(apply_override(config, path + "=8"), "");
  else
    clear_at(config, path);
}

std::string first_problem_after_repairs(const Rule& rule, RunConfig& config) {
  for (int round = 0; round < 20; ++round) {
    const std::vector<std::string> lines = problems_of(config);
    if (lines.empty()) return "";
    for (const std::string& line : lines) mend(line, rule, config);
  }
  return problems_of(config)[0];
}

TEST(Compatibility, RefusesWhatEachRowSaysInItsWordsAndAcceptsTheRepair) {
  for (const Rule& rule : rules()) {
    SCOPED_TRACE(testing::Message() << rule.field.path << " " << rule.field.wanted << " with "
                                    << rule.with.all[0].path << " " << rule.with.all[0].wanted);
    RunConfig config = circumstances(rule);
    make(rule.field, false, config);
    RunConfig filled = config;
    apply_defaults(filled);
    const std::string message = broken_by(rule, filled).value_or("the row is not broken");
    const auto speaks_of_it = testing::StartsWith(std::string(rule.field.path) + " ");
    EXPECT_THAT(message, speaks_of_it);
    EXPECT_THAT(problems(filled, 0), testing::Contains(speaks_of_it));
    EXPECT_THAT(message, HasSubstr(rule.because ? rule.because : rule.with.all[0].path));
    EXPECT_TRUE(message.ends_with(std::string("; ") + rule.remedy)) << message;

    config = circumstances(rule);
    make(rule.field, true, config);
    EXPECT_EQ(first_problem_after_repairs(rule, config), "");
    apply_defaults(config);
    for (const Term& term : rule.with.all)
      EXPECT_TRUE(term.path == nullptr || holds(term, config)) << term.path;
  }
}

std::string problems_with(const std::vector<std::string>& change) {
  RunConfig config;
  google::protobuf::TextFormat::ParseFromString(kSmallRun, &config);
  config.set_name("run");
  for (const std::string& assignment : change) EXPECT_EQ(apply_override(config, assignment), "");
  return fmt::format("{}", fmt::join(problems_of(config), "\n"));
}

TEST(Compatibility, IsWordedWithTheValuesThatMeet) {
  EXPECT_EQ(
      problems_with({"model.moe.router.selection=SAMPLED", "model.moe.router.noise=FIXED_NOISE"}),
      "model.moe.router.noise (FIXED_NOISE) must be NO_NOISE with "
      "model.moe.router.selection SAMPLED: noise is there to vary which experts are the best; "
      "leave it out, or use selection TOP_K");
  EXPECT_EQ(
      problems_with({"model.attention.yarn.factor=2", "model.attention.position=RELATIVE_BIAS"}),
      "model.attention.yarn must not be set with model.attention.position "
      "RELATIVE_BIAS: it stretches RoPE; leave one of them out");
  EXPECT_EQ(problems_with({"model.moe.balance_loss.load=UNBIASED_CHOICES"}),
            "model.moe.balance_loss.load (UNBIASED_CHOICES) must not be UNBIASED_CHOICES with "
            "model.moe.router.selection_bias false and model.moe.router.num_groups 1: there is no "
            "bias and there are no groups to leave out; use ALL_CHOICES");
}

TEST(Compatibility, AdvisesWhatIsThenAccepted) {
  const std::string hash = "model.moe.router.selection=HASH",
                    top_k = "model.moe.router.selection=TOP_K";
  const std::string two_levels = "model.moe.router.hierarchy=TWO_LEVEL";
  const std::string groups = "model.moe.router.num_groups=2";
  EXPECT_THAT(problems_with({hash, two_levels}),
              testing::AllOf(HasSubstr("hierarchy (TWO_LEVEL) must be ONE_LEVEL with"),
                             HasSubstr("leave it out, or use selection TOP_K"),
                             testing::Not(HasSubstr("set num_groups"))));
  EXPECT_THAT(problems_with({top_k, two_levels}), HasSubstr("set num_groups and group_top_k"));
  EXPECT_EQ(problems_with({top_k, two_levels, groups, "model.moe.router.group_top_k=1"}), "");

  EXPECT_THAT(problems_with({hash, "model.moe.dead_expert_action=RAISE_BIAS"}),
              HasSubstr("; use REINITIALIZE, or"));
  EXPECT_EQ(problems_with({hash, "model.moe.dead_expert_action=REINITIALIZE"}), "");

  const std::string budget = "model.moe.capacity.policy=DEVICE_BUDGET",
                    devices = "model.moe.num_devices=2";
  EXPECT_THAT(problems_with({budget, devices, "model.moe.capacity.max_group_tokens=64"}),
              HasSubstr("; leave it out, or set group_sequences in its place"));
  EXPECT_EQ(problems_with({budget, devices, "model.moe.capacity.group_sequences=2"}), "");
}

TEST(Compatibility, SaysAFaultOnce) {
  EXPECT_EQ(problems_with({"model.moe.router.weighting=RENORMALIZE_KEPT", "model.moe.top_k=1",
                           "model.moe.capacity.policy=NEXT_FREE"}),
            "model.moe.router.weighting (RENORMALIZE_KEPT) must not be RENORMALIZE_KEPT with "
            "model.moe.top_k 1 and model.moe.router.selection TOP_K: one expert of a token is "
            "kept, its weight is always 1, and the router would get no gradient; use RAW");
  // Of what nothing reads no rule need say what it must be.
  EXPECT_EQ(
      problems_with({"model.moe.balance_loss.statistics=PER_SEQUENCE",
                     "model.moe.capacity.max_group_tokens=64"}),
      "model.moe.capacity.max_group_tokens (64) is set, but only drops, statistics PER_GROUP and "
      "selections SINKHORN and BALANCED_ASSIGNMENT look at routing groups, while "
      "model.moe.capacity.policy is NO_DROP and model.moe.router.selection is TOP_K; leave it out");
}

TEST(Compatibility, NamesValuesThatTheirFieldsHave) {
  for (const Rule& rule : rules())
    for (const Term& term : terms(rule)) {
      const FieldDescriptor& field = field_at(term.path);
      if (field.cpp_type() != FieldDescriptor::CPPTYPE_ENUM) continue;
      std::istringstream words(term.wanted);
      for (std::string word; words >> word;)
        EXPECT_TRUE(word == "not" || word == "or" || word == "unset" ||
                    field.enum_type()->FindValueByName(word) != nullptr)
            << term.path << " " << word;
    }
}

std::string row(const Rule& rule) {
  std::string where;
  for (const Term& term : rule.with.all)
    if (term.path != nullptr)
      where += fmt::format("{}`{}` {}", where.empty() ? "" : " and ", term.path, term.wanted);
  return fmt::format("| `{}` | {} | {} | {} |\n", rule.field.path, rule.field.wanted, where,
                     rule.because ? rule.because : "");
}

std::string page() {
  std::string text =
      "# What does not go together\n\n"
      "Made from the tables in `core/config/compatibility_*.cc`; a test keeps it so, and says how "
      "to "
      "renew it.\n"
      "A config against a row is refused before anything is allocated. Sizes have rules beside "
      "these.\n";
  for (const Topic& topic : topics()) {
    text += fmt::format("\n## {}\n\n| field | must be | where | because |\n|---|---|---|---|\n",
                        topic.title);
    for (const Rule& rule : topic.rules) text += row(rule);
  }
  return text;
}

TEST(Compatibility, IsThePageOfTheDocumentation) {
  std::ifstream file(std::string(std::getenv("SY_TEST_ROOT")) + "/docs/compatibility.md");
  const std::string written{std::istreambuf_iterator<char>(file), {}};
  if (written == page()) return;
  const std::string fresh = testing::TempDir() + "/compatibility.md";
  std::ofstream(fresh) << page();
  ADD_FAILURE() << "copy " << fresh << " to docs/compatibility.md";
}

}  // namespace
}  // namespace switchyard::config
