#include "trainer/products.h"

#include <algorithm>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/base/log.h"
#include "core/tensor/gemm.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/run_folder.h"

namespace switchyard::trainer {
namespace {

using config::Runtime;

// One option of the schema, by its number.
struct Option {
  int number;
  const char* name;
};

// What there is to know of one of the two fields.
struct Choice {
  const char* field;
  Option wide;      // needs AVX-512
  Option plain;     // every processor has it
  bool is_here;     // whether this processor has the wide one
  int best;         // on this processor
  int asked, kept;  // 0: unset
};

// **Collective.** Returns the number of the option that all ranks take.
int settle(const Choice& choice, parallel::Communicator& world) {
  const bool is_everywhere =
      world.all_reduce(choice.is_here ? 1.0 : 0.0, parallel::ReduceOp::kMin, "products") > 0;
  if (choice.asked == choice.wide.number && !is_everywhere)
    throw ConfigError(
        fmt::format("runtime.{} ({}) needs AVX-512 on every rank, and not every processor of this "
                    "job has it (here: {}); use {} or leave it out",
                    choice.field, choice.wide.name, processor_name(), choice.plain.name));
  int wanted = choice.asked ? choice.asked : choice.kept ? choice.kept : choice.best;
  world.broadcast(&wanted, sizeof wanted, 0, "products");
  if (wanted != choice.wide.number || is_everywhere) return wanted;
  if (world.rank() == 0)
    warn("runtime.{} is {}, since {} needs AVX-512, which not every processor of this job has",
         choice.field, choice.plain.name, choice.wide.name);
  return choice.plain.number;
}

GemmPaths paths_of(const Runtime& runtime) {
  return {runtime.float32_products() == config::ONEDNN ? GemmPath::kOneDnn : GemmPath::kAten,
          runtime.bfloat16_products() == config::NATIVE ? GemmPath::kOneDnn : GemmPath::kFloat32};
}

}  // namespace

Runtime with_best_products(Runtime runtime) {
  const GemmPaths best = fastest_gemm_paths();
  if (!runtime.has_float32_products())
    runtime.set_float32_products(best.float32 == GemmPath::kOneDnn ? config::ONEDNN : config::MKL);
  if (!runtime.has_bfloat16_products())
    runtime.set_bfloat16_products(best.bfloat16 == GemmPath::kOneDnn ? config::NATIVE
                                                                     : config::AS_FLOAT32);
  return runtime;
}

Runtime agree_on_products(Runtime asked, const Runtime& kept, parallel::Communicator& world) {
  const Runtime best = with_best_products({});
  const int float32 = settle({.field = "float32_products",
                              .wide = {config::ONEDNN, "ONEDNN"},
                              .plain = {config::MKL, "MKL"},
                              .is_here = has_onednn(at::kFloat),
                              .best = best.float32_products(),
                              .asked = asked.float32_products(),
                              .kept = kept.float32_products()},
                             world);
  const int bfloat16 = settle({.field = "bfloat16_products",
                               .wide = {config::NATIVE, "NATIVE"},
                               .plain = {config::AS_FLOAT32, "AS_FLOAT32"},
                               .is_here = has_onednn(at::kBFloat16),
                               .best = best.bfloat16_products(),
                               .asked = asked.bfloat16_products(),
                               .kept = kept.bfloat16_products()},
                              world);
  asked.set_float32_products(static_cast<config::Float32Products>(float32));
  asked.set_bfloat16_products(static_cast<config::BFloat16Products>(bfloat16));
  set_gemm_paths(paths_of(asked));
  return asked;
}

Runtime products_of_run(const config::RunConfig& config, const Resume& resume) {
  if (resume.kind == Resume::kNever) return {};
  try {
    const auto path = resume.kind == Resume::kPath
                          ? std::optional(resume.path)
                          : latest_checkpoint(RunFolder(config).checkpoints());
    if (path)
      return CheckpointReader(*path, CheckpointReader::Contents::kWeights).config().runtime();
  } catch (const CheckpointError&) {  // damaged: the trainer tries older ones
  }
  return {};
}

std::string processors_of(parallel::Communicator& world) {
  const std::vector<std::string> names = world.all_gather_text(processor_name(), "processors");
  std::vector<std::string> runs;
  for (auto begin = names.begin(); begin != names.end();) {
    const auto end = std::find_if(begin, names.end(), [&](const auto& n) { return n != *begin; });
    runs.push_back(end - begin == world.size() ? *begin
                                               : fmt::format("{} x {}", end - begin, *begin));
    begin = end;
  }
  return fmt::format("{}", fmt::join(runs, "; "));
}

std::string describe_products(const Runtime& runtime) {
  return fmt::format("products: float32 {}, bfloat16 {} ({})",
                     config::Float32Products_Name(runtime.float32_products()),
                     config::BFloat16Products_Name(runtime.bfloat16_products()), processor_name());
}

}  // namespace switchyard::trainer
