#pragma once
// Which values of fields do not go together, as a table. The messages of the validation, the
// page docs/compatibility.md and the test of every row are made from it. Rules that compute
// something (one size must divide another) are code, in the files validate*.cc.

#include <optional>
#include <span>
#include <string>

#include "core/config/run_config.pb.h"

namespace switchyard::config {

// What a field may be, in words that are code, message and documentation at once:
//   "RAW", "FP32 or FP64", "0"    one of these values, as the text format writes them
//   "not TOP_K", "not A or B"     set, and none of these
//   "above 0", "at least 2"       a number in that range
//   "set", "unset"                of groups, and of fields whose presence is a choice
struct Term {
  const char* path = nullptr;
  const char* wanted = nullptr;
};

// Up to three terms; those without a path are none.
struct Terms {
  constexpr Terms(Term first = {}, Term second = {}, Term third = {}) : all{first, second, third} {}

  Term all[3];
};

// Where all terms of `with` hold, `field` must be as it says. Fields that are unset break no rule
// but one that wants them set.
struct Rule {
  constexpr Rule(Term what, Terms where, const char* why = nullptr,
                 const char* advice = "leave it out")
      : field(what), with(where), because(why), remedy(advice) {}

  Term field;
  Terms with;
  const char* because;  // null where the rule says it all
  const char* remedy;
};

struct Topic {
  const char* title;
  std::span<const Rule> rules;
};

std::span<const Topic> routing_compatibility();  // compatibility_routing.cc
std::span<const Topic> model_compatibility();    // compatibility_model.cc

bool holds(const Term& term, const RunConfig& config);

// "model.moe.top_k (2) must be 1 with model.moe.router.selection BALANCED_ASSIGNMENT: which gives
// each token one expert; set top_k: 1"; nullopt where the rule does not apply or holds.
std::optional<std::string> broken_by(const Rule& rule, const RunConfig& config);

}  // namespace switchyard::config
