#include "trainer/metrics_log.h"

#include <fmt/format.h>

#include "core/base/log.h"

namespace switchyard::trainer {

MetricsLog::MetricsLog(const RunFolder& folder, int64_t resumed_step) : bar_(wants_progress_bar()) {
  const FileSystem files;
  files.create_directory(folder.events());
  drop_json_lines_after(files, folder.metrics(), resumed_step);
  drop_json_lines_after(files, folder.timing(), resumed_step);
  metrics_ = std::make_unique<JsonLinesWriter>(folder.metrics());
  timing_ = std::make_unique<JsonLinesWriter>(folder.timing());
  events_ = std::make_unique<EventFile>(folder.events());
}

void MetricsLog::write(JsonLinesWriter& file, int64_t step, const JsonLinesRecord& record) {
  file.write(record);
  std::vector<EventScalar> scalars;
  for (const auto& [key, value] : record) {
    if (key == "step") continue;
    if (const auto* real = std::get_if<double>(&value))
      scalars.push_back({key, static_cast<float>(*real)});
    if (const auto* whole = std::get_if<int64_t>(&value))
      scalars.push_back({key, static_cast<float>(*whole)});
  }
  events_->add_scalars(step, scalars);
}

void MetricsLog::log_step(const StepRecord& record) {
  say(console_line(record));
  write(*metrics_, record.step, metrics_of(record));
  write(*timing_, record.step, timing_of(record));
}

void MetricsLog::log_evaluation(int64_t step, const std::vector<SourceResult>& results,
                                const std::string& suffix) {
  JsonLinesRecord record{{"step", step}, {"eval/loss" + suffix, mean_loss(results)}};
  for (const SourceResult& result : results) {
    record.emplace_back("eval/" + result.name + "/loss" + suffix, result.loss);
    if (result.text_bytes > 0)
      record.emplace_back("eval/" + result.name + "/bits_per_byte" + suffix,
                          result.bits_per_byte());
    for (const auto& [name, sum] : result.sums)
      record.emplace_back("eval/" + result.name + "/" + metric_name(name, suffix), sum.mean());
  }
  const size_t num_layers = results.empty() ? 0 : results[0].layers.size();
  for (size_t layer = 0; layer < num_layers; ++layer)
    record.emplace_back(fmt::format("eval/moe/{}/mutual_information", layer),
                        mutual_information(results, layer));
  say(fmt::format("eval: step {}  loss: {:.4f}", step, mean_loss(results)));
  write(*metrics_, step, record);
}

void MetricsLog::say(const std::string& text) {
  bar_.clear();
  log_line(text);
  bar_.redraw();
}

void MetricsLog::tick(int64_t step, int64_t num_steps, double eta_seconds) {
  bar_.update(step, num_steps,
              fmt::format("step {}/{}  eta {}", step, num_steps, format_duration(eta_seconds)));
}

}  // namespace switchyard::trainer
