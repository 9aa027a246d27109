#include "trainer/selfcheck/selfcheck.h"

#include <algorithm>

#include <ATen/Parallel.h>
#include <fmt/format.h>

#include "core/base/errors.h"
#include "core/config/mesh_shape.h"
#include "models/inspect/memory.h"
#include "parallel/agreement.h"
#include "parallel/single.h"
#include "parallel/thread.h"
#include "trainer/machine/available_memory.h"
#include "trainer/selfcheck/meshes.h"

namespace switchyard::trainer {
namespace {

constexpr double kTimeoutSeconds = 600;

// What is another function for each number of ranks gives way to what is not.
config::RunConfig comparable(config::RunConfig config, int64_t steps,
                             std::vector<std::string>& changes) {
  config.mutable_mesh()->Clear();
  config.mutable_train()->set_steps(std::max(steps, config.train().steps()));
  if (!config.model().has_moe()) return config;
  config::Moe& moe = *config.mutable_model()->mutable_moe();
  if (moe.balance_loss().statistics() == config::PER_RANK) {
    moe.mutable_balance_loss()->set_statistics(config::GLOBAL_BATCH);
    changes.emplace_back("model.moe.balance_loss.statistics: GLOBAL_BATCH in place of PER_RANK");
  }
  if (moe.capacity().max_group_tokens() > 0) {
    moe.mutable_capacity()->clear_group_rule();
    moe.mutable_capacity()->set_max_group_tokens(0);
    changes.emplace_back("model.moe.capacity.group_sequences: 1 in place of max_group_tokens");
  }
  return config;
}

std::vector<config::Mesh> meshes_of(const config::RunConfig& config,
                                    const SelfcheckOptions& options) {
  const std::vector<config::Mesh> legal = legal_meshes(config, options.ranks);
  return options.quick ? covering(legal, config.model(), options.ranks) : legal;
}

config::RunConfig on(const config::Mesh& mesh, config::RunConfig config) {
  *config.mutable_mesh() = mesh;
  return config;
}

// Numbers of the one-rank run that are kept to compare with, in bytes: gradients of each step,
// weights, at most two moments.
double trace_bytes(const config::RunConfig& config, int64_t steps) {
  const double width = config.runtime().compute() == config::FP64 ? 8 : 4;
  return width * static_cast<double>(models::census(config.model()).total) *
         static_cast<double>(steps + 3);
}

void check_memory_of(const config::RunConfig& config, const std::vector<config::Mesh>& meshes,
                     const SelfcheckOptions& options, int threads) {
  const auto bytes_of = [&](const config::Mesh& mesh, int ranks) {
    return models::memory_plan(config, config::mesh_shape(mesh, config.model(), ranks)).total();
  };
  double needed = bytes_of({}, 1);
  for (const config::Mesh& mesh : meshes)
    needed = std::max(needed, threads * bytes_of(mesh, options.ranks));
  needed = options.local_ranks * (needed + trace_bytes(config, options.steps));
  const auto available = static_cast<double>(look_at_memory().available_bytes);
  if (available <= 0 || needed <= available || !config.runtime().check_memory()) return;
  throw ConfigError(fmt::format(
      "selfcheck: {} process(es) of this machine need {}, for the run on one rank and {} rank(s) "
      "of a mesh each, and {} are available; add --shrink, which makes the model narrow and "
      "shallow and keeps all else",
      options.local_ranks, models::format_bytes(needed), threads, models::format_bytes(available)));
}

// The runs of one selfcheck, and how far they are.
class Runs {
 public:
  Runs(config::RunConfig config, const SelfcheckOptions& options, size_t meshes,
       const SelfcheckProgress& progress)
      : config_(std::move(config)),
        options_(options),
        mistake_(mistake_named(options.inject)),
        total_(options.steps * static_cast<int64_t>(meshes + 1)),
        progress_(progress) {}

  // Not collective.
  void on_one_rank(bool shows) {
    const auto alone = parallel::make_single();
    tell(shows, "one rank", 0);
    train_watched(config_, *alone,
                  {.steps = options_.steps,
                   .observe = [this](const Reading& reading) { trace_.record(reading); },
                   .step_done = [&](int64_t) { tell(shows, "one rank", 1); }});
    trace_.finish();
  }

  // **Collective** over `ranks`.
  Differences on_mesh(const config::Mesh& mesh, parallel::Communicator& ranks) {
    Differences differences;
    const bool shows = ranks.rank() == 0;
    tell(shows, name_of(mesh), 0);
    const auto observe = [&](const Reading& reading) { compare(reading, trace_, differences); };
    train_watched(on(mesh, config_), ranks,
                  {.steps = options_.steps,
                   .mistake = mistake_,
                   .observe = observe,
                   .step_done = [&](int64_t) { tell(shows, name_of(mesh), 1); }});
    return merge(differences, ranks);
  }

  // The same with threads of this process as ranks.
  Differences on_threads(const config::Mesh& mesh) {
    Differences result;
    const int each = std::max(1, at::get_num_threads() / options_.ranks);
    parallel::ThreadGroup(options_.ranks, kTimeoutSeconds).run([&](parallel::Communicator& ranks) {
      at::set_num_threads(each);
      Differences differences = on_mesh(mesh, ranks);
      if (ranks.rank() == 0) result = std::move(differences);
    });
    return result;
  }

 private:
  void tell(bool shows, const std::string& run, int64_t steps_more) {
    if (shows) progress_(run, done_ += steps_more, total_);
  }

  config::RunConfig config_;
  SelfcheckOptions options_;
  const Mistake* mistake_;
  Trace trace_;
  int64_t done_ = 0, total_;
  const SelfcheckProgress& progress_;
};

void check_mistake(const SelfcheckReport& report) {
  const Mistake* mistake = mistake_named(report.options.inject);
  if (!mistake) return;
  const auto shows = [&](const MeshReport& mesh) { return mesh.axes.contains(mistake->axis); };
  if (std::ranges::none_of(report.meshes, shows))
    throw ConfigError(fmt::format(
        "--inject {} needs a mesh with several ranks along the {} axis, and this config has none "
        "on {} ranks; choose another, or another -n",
        mistake->name, words_of(mistake->axis).name, report.options.ranks));
}

}  // namespace

bool MeshReport::misses() const { return std::ranges::any_of(judgements, &Judgement::misses); }

bool SelfcheckReport::passed() const { return std::ranges::none_of(meshes, &MeshReport::misses); }

std::vector<Cause> SelfcheckReport::causes(std::optional<Quantity> quantity) const {
  std::vector<MeshVerdict> verdicts;
  for (const MeshReport& mesh : meshes) {
    const bool misses = std::ranges::any_of(mesh.judgements, [&](const Judgement& judgement) {
      return judgement.misses && (!quantity || judgement.quantity == *quantity);
    });
    verdicts.push_back({mesh.axes, misses});
  }
  return causes_of(verdicts);
}

SelfcheckReport selfcheck(const config::RunConfig& config, const SelfcheckOptions& options,
                          parallel::Communicator& world, const SelfcheckProgress& progress) {
  SelfcheckReport report{{}, options, {}, {}};
  report.config = comparable(
      parallel::make_on_all(world, "open token files", [&] { return with_tokenizer(config); }),
      options.steps, report.changes);
  for (const config::Mesh& mesh : meshes_of(report.config, options))
    report.meshes.push_back({mesh, axes_of(mesh, report.config.model(), options.ranks), {}});
  check_mistake(report);
  std::vector<config::Mesh> meshes;
  std::ranges::transform(report.meshes, std::back_inserter(meshes), &MeshReport::mesh);
  const bool uses_threads = world.size() == 1;
  parallel::do_on_all(world, "memory of selfcheck", [&] {
    check_memory_of(report.config, meshes, options, uses_threads ? options.ranks : 1);
  });
  Runs runs(report.config, options, meshes.size(), progress);
  runs.on_one_rank(world.rank() == 0);
  for (MeshReport& mesh : report.meshes) {
    const Differences differences =
        uses_threads ? runs.on_threads(mesh.mesh) : runs.on_mesh(mesh.mesh, world);
    mesh.judgements = judge(differences, report.config.runtime().compute());
  }
  return report;
}

}  // namespace switchyard::trainer
