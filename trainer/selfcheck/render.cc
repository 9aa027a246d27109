// What `switchyard selfcheck` prints.

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "models/inspect/census.h"
#include "trainer/selfcheck/meshes.h"
#include "trainer/selfcheck/selfcheck.h"

namespace switchyard::trainer {
namespace {

std::string line_of(const Judgement& judgement) {
  const char* mark = judgement.misses ? "  MISS" : "";
  const char* name = name_of(judgement.quantity);
  if (judgement.quantity == Quantity::kRouting) {
    const std::string first = judgement.differing > 0 ? fmt::format("; first {} in step {}",
                                                                    judgement.where, judgement.step)
                                                      : "";
    return fmt::format("  {:<16} {} of {} slots decided otherwise (allowed {:.2g}){}{}\n", name,
                       judgement.differing, judgement.decisions, judgement.allowed, first, mark);
  }
  const bool is_tensor =
      judgement.quantity != Quantity::kLoss && judgement.quantity != Quantity::kNorm;
  return fmt::format("  {:<16} {:.1e} (allowed {:.0e}{}) {}in step {}{}\n", name, judgement.error,
                     judgement.allowed, judgement.is_coarse ? ", as a whole" : "",
                     is_tensor ? judgement.where + ", " : "", judgement.step, mark);
}

std::string causes_text(const std::vector<Cause>& causes) {
  std::string text;
  for (const Cause& cause : causes)
    text += fmt::format("{}{}", text.empty() ? "" : ", and ", cause.text());
  return text;
}

// The worst place where a quantity misses, in the first of the steps that do.
std::string verdict_on(Quantity quantity, const SelfcheckReport& report) {
  const Judgement* worst = nullptr;
  for (const MeshReport& mesh : report.meshes)
    for (const Judgement& judgement : mesh.judgements)
      if (judgement.quantity == quantity && judgement.misses &&
          (!worst || judgement.step < worst->step ||
           (judgement.step == worst->step && judgement.error > worst->error)))
        worst = &judgement;
  if (!worst) return "";
  return fmt::format("  {:<16} axis {}; {:.1e} at {}, step {}\n", name_of(quantity),
                     causes_text(report.causes(quantity)), worst->error, worst->where, worst->step);
}

std::string render_text(const SelfcheckReport& report) {
  std::string text;
  for (const std::string& change : report.changes)
    text += fmt::format(
        "compared with {}, as the config's is another function for each number of "
        "ranks\n",
        change);
  text += fmt::format("{} step(s) in {} on {} ranks, relative to one rank:\n", report.options.steps,
                      config::ComputeType_Name(report.config.runtime().compute()),
                      report.options.ranks);
  for (const MeshReport& mesh : report.meshes) {
    text += name_of(mesh.mesh) + "\n";
    for (const Judgement& judgement : mesh.judgements) text += line_of(judgement);
  }
  if (report.passed())
    return text + fmt::format("selfcheck: all {} mesh(es) compute what one rank does\n",
                              report.meshes.size());
  text += fmt::format("selfcheck: broken along axis {}\n", causes_text(report.causes()));
  for (const Quantity quantity : kAllQuantities) text += verdict_on(quantity, report);
  return text;
}

nlohmann::ordered_json degrees_of(const config::Mesh& mesh) {
  nlohmann::ordered_json degrees;
  const auto& fields = *config::Mesh::descriptor();
  for (int i = 0; i < fields.field_count(); ++i)
    degrees[fields.field(i)->name()] = mesh.GetReflection()->GetInt32(mesh, fields.field(i));
  return degrees;
}

nlohmann::ordered_json to_json(const Judgement& judgement) {
  nlohmann::ordered_json json = {
      {"difference", judgement.error},     {"allowed", judgement.allowed},
      {"tensor", judgement.where},         {"step", judgement.step},
      {"as_a_whole", judgement.is_coarse}, {"misses", judgement.misses}};
  if (judgement.quantity == Quantity::kRouting) {
    json["differing"] = judgement.differing;
    json["decisions"] = judgement.decisions;
  }
  return json;
}

std::string render_json(const SelfcheckReport& report) {
  nlohmann::ordered_json json = {
      {"passed", report.passed()},
      {"ranks", report.options.ranks},
      {"steps", report.options.steps},
      {"compute", config::ComputeType_Name(report.config.runtime().compute())},
      {"changes", report.changes},
      {"axes", nlohmann::ordered_json::array()},
      {"meshes", nlohmann::ordered_json::array()}};
  for (const Cause& cause : report.causes()) json["axes"].push_back(cause.text());
  for (const MeshReport& mesh : report.meshes) {
    nlohmann::ordered_json entry = {{"mesh", degrees_of(mesh.mesh)}};
    for (const Judgement& judgement : mesh.judgements)
      entry[name_of(judgement.quantity)] = to_json(judgement);
    json["meshes"].push_back(entry);
  }
  return json.dump(2) + "\n";
}

}  // namespace

std::string render(const SelfcheckReport& report, bool json) {
  return json ? render_json(report) : render_text(report);
}

}  // namespace switchyard::trainer
