#include "trainer/log/report.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <span>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "core/base/errors.h"
#include "core/base/foreign_text.h"
#include "core/base/grouped.h"
#include "core/io/file_system.h"
#include "core/io/json.h"
#include "trainer/log/svg_chart.h"

namespace switchyard::trainer {
namespace {

using Json = nlohmann::json;
using Records = std::vector<Json>;

// "moe/3/drop" -> 3; -1 for other keys.
int router_of(const std::string& key, const std::string& name) {
  if (!key.starts_with("moe/") || !key.ends_with("/" + name)) return -1;
  const std::string number = key.substr(4, key.size() - 5 - name.size());
  const bool is_number = !number.empty() && number.size() < 6 &&
                         number.find_first_not_of("0123456789") == std::string::npos;
  return is_number ? std::stoi(number) : -1;
}

bool is_load(const std::string& key) { return router_of(key, "expert_load") >= 0; }
bool is_list(const std::string& key) { return is_load(key) || key.starts_with("ranks/"); }

// What the run writes: a step from 0, and by name a number, or a list of them for the load of
// experts and the times of ranks. Null stands for NaN and infinity.
void check(const Json& record, const std::string& where) {
  const auto expect = [&](bool condition, const std::string& what) {
    if (!condition)
      throw DataError(fmt::format("{}: expected {}; restore the line or delete it", where, what));
  };
  const auto is_value = [](const Json& value) { return value.is_number() || value.is_null(); };
  const auto step = record.find("step");
  expect(step != record.end() && step->is_number_unsigned() && step->get<uint64_t>() <= INT64_MAX,
         "a JSON object with a \"step\", an integer from 0");
  for (const auto& [key, value] : record.items())
    if (is_list(key))
      expect(value.is_array() && std::all_of(value.begin(), value.end(), is_value),
             in_quotes(key) + " to be a list of numbers");
    else
      expect(is_value(value), in_quotes(key) + " to be a number");
}

// The file's lines; a last one without its end is still being written.
Records read_records(const std::string& path) {
  require_regular_or_absent(path);
  Records records;
  std::ifstream file(path);
  int number = 0;
  for (std::string line; std::getline(file, line) && !file.eof();) {
    const std::string where = fmt::format("{}:{}", path, ++number);
    check(records.emplace_back(parse_json(line, where, raise<DataError>)), where);
  }
  return records;
}

double number_of(const Json& value) {
  return value.is_number() ? value.get<double>() : std::numeric_limits<double>::quiet_NaN();
}

Curve curve(const Records& records, const std::string& key, const std::string& label) {
  Curve result{label};
  for (const Json& record : records)
    if (record.contains(key))
      result.points.emplace_back(record["step"].get<double>(), number_of(record[key]));
  return result;
}

// Keys of all records that `wanted` accepts, each once, in order of appearance.
template <typename F>
std::vector<std::string> keys_where(const Records& records, F&& wanted) {
  std::vector<std::string> keys;
  for (const Json& record : records)
    for (const auto& [key, value] : record.items())
      if (wanted(key) && std::ranges::find(keys, key) == keys.end()) keys.push_back(key);
  return keys;
}

// "" where there is nothing to draw.
std::string chart_of(const std::string& title, std::vector<Curve> curves, bool from_zero = false) {
  std::erase_if(curves, [](const Curve& c) { return c.points.empty(); });
  if (curves.empty()) return "";
  return render(LineChart{title, "step", std::move(curves), from_zero});
}

// "loss", with the suffix that a run's losses may have (trainer/log/step_record.h).
std::string loss_key(const Records& records) {
  const auto keys = keys_where(records, [](const std::string& k) { return k.starts_with("loss"); });
  return keys.empty() ? "loss" : keys.front();
}

// The losses of the steps that were marked as spikes.
Curve spikes(const Records& records, const std::string& loss) {
  Records marked;
  std::ranges::copy_if(records, std::back_inserter(marked),
                       [](const Json& record) { return record.contains("spike"); });
  Curve result = curve(marked, loss, "spike");
  result.dots_only = true;
  return result;
}

std::string loss_charts(const Records& records) {
  const std::string loss = loss_key(records), begin = "eval/", end = "/" + loss;
  std::vector<Curve> sources;
  for (const std::string& key : keys_where(records, [&](const std::string& k) {
         return k.starts_with(begin) && k.ends_with(end) && k != begin + loss;
       }))
    sources.push_back(
        curve(records, key, key.substr(begin.size(), key.size() - begin.size() - end.size())));
  const std::string all = chart_of(
      "Loss, nats per token", {curve(records, loss, "training"),
                               curve(records, begin + loss, "held out"), spikes(records, loss)});
  if (sources.size() < 2) return all;
  return all + chart_of("Held-out loss by source, nats per token", std::move(sources));
}

// One curve per router.
std::string router_chart(const Records& records, const std::string& title, const std::string& name,
                         bool from_zero) {
  std::vector<Curve> curves;
  for (const std::string& key :
       keys_where(records, [&](const std::string& k) { return router_of(k, name) >= 0; }))
    curves.push_back(curve(records, key, fmt::format("router {}", router_of(key, name))));
  return chart_of(title, std::move(curves), from_zero);
}

std::string load_maps(const Records& records) {
  std::string maps;
  for (const std::string& key : keys_where(records, is_load)) {
    HeatMap map{fmt::format("Router {}: load of each expert; the stronger, the more tokens",
                            router_of(key, "expert_load")),
                "step"};
    for (const Json& record : records) {
      if (!record.contains(key)) continue;
      map.x.push_back(record["step"]);
      map.columns.emplace_back();
      for (const Json& load : record[key]) map.columns.back().push_back(number_of(load));
    }
    maps += render(map);
  }
  return maps;
}

std::string expert_charts(const Records& records) {
  const std::string charts =
      router_chart(records, "Slots of the busiest expert over the mean; 1 is even", "load_max_mean",
                   false) +
      router_chart(records, "Entropy of the experts' shares; 1 is even", "load_entropy", false) +
      router_chart(records, "Balance loss without its coefficient", "aux", false) +
      router_chart(records, "Share of dropped slots", "drop", true) +
      chart_of("Experts without tokens", {curve(records, "moe/dead", "dead")}, true) +
      load_maps(records);
  return charts.empty() ? "" : "<h2>Experts</h2>\n<div class=\"grid2\">\n" + charts + "</div>\n";
}

// The last number of a key with its name; "" without one.
std::string last_value(const Records& records, const std::string& key, const std::string& name) {
  const auto record = std::find_if(records.rbegin(), records.rend(), [&](const Json& r) {
    return r.contains(key) && r[key].is_number();
  });
  if (record == records.rend()) return "";
  return fmt::format("<div><b>{}</b>{}</div>\n", short_number((*record)[key]), name);
}

std::string numbers(const Records& records, const Records& timing) {
  const std::string loss = loss_key(records);
  return fmt::format("<div class=\"numbers\"><div><b>{}</b>steps</div>\n",
                     grouped(records.back()["step"])) +
         last_value(records, "tokens", "tokens") + last_value(records, loss, "training loss") +
         last_value(records, "eval/" + loss, "held-out loss") +
         last_value(records, "skipped_steps", "skipped steps") +
         last_value(timing, "tokens_per_second", "tokens per second") + "</div>\n";
}

constexpr char kStyle[] =
    "body{margin:2em auto;max-width:1500px;padding:0 1.5em;font:15px/1.45 sans-serif;"
    "background:var(--ground);color:var(--text)}h1,h2{font-weight:600}\n"
    ".grid2{display:grid;grid-template-columns:repeat(auto-fit,minmax(420px,1fr));gap:1.6em}\n"
    ".numbers{display:flex;flex-wrap:wrap;gap:2.2em;margin:1.2em 0 2em}"
    ".numbers div{display:flex;flex-direction:column}.numbers b{font-size:1.5em}\n";

}  // namespace

std::string report_page(const std::string& folder) {
  const std::string path = folder + "/metrics.jsonl";
  const Records records = read_records(path);
  if (records.empty())
    throw ConfigError(fmt::format(
        "{}: expected the numbers of a run, found none; name a run's folder, such as runs/debug",
        path));
  const Records timing = read_records(folder + "/timing.jsonl");
  const std::string name =
      escaped(std::filesystem::absolute(folder + "/").lexically_normal().parent_path().filename());
  return fmt::format(
             "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{0}</title>\n"
             "<meta name=\"viewport\" content=\"width=device-width\">\n<style>\n{1}{2}</style>"
             "</head>\n<body><h1>{0}</h1>\n",
             name, chart_style(), kStyle) +
         numbers(records, timing) + "<div class=\"grid2\">\n" + loss_charts(records) +
         chart_of("Learning rate", {curve(records, "lr", "")}, true) +
         chart_of("Norm of the gradient", {curve(records, "grad_norm", "")}, true) +
         chart_of("Tokens per second", {curve(timing, "tokens_per_second", "")}, true) +
         "</div>\n" + expert_charts(records) + "</body></html>\n";
}

std::string write_report(const std::string& folder) {
  const std::string page = report_page(folder), path = folder + "/report.html";
  write_file_atomically(FileSystem(), path, std::as_bytes(std::span(page)));
  return path;
}

}  // namespace switchyard::trainer
