#include "core/io/json.h"

#include <cstdlib>
#include <utility>
#include <vector>

#include "core/base/foreign_text.h"
#include "core/io/json_events.h"

namespace switchyard {
namespace {

using nlohmann::json;

class TreeBuilder : public JsonEvents {
 public:
  TreeBuilder(const std::string& where, RaiseError raise, size_t max_depth)
      : JsonEvents(where, raise), max_depth_(max_depth) {}

  bool null() { return add(nullptr); }
  bool boolean(bool value) { return add(value); }
  bool number_integer(int64_t value) { return add(value); }
  bool number_unsigned(uint64_t value) { return add(value); }
  bool number_float(double value, const std::string&) { return add(value); }
  bool string(std::string& value) { return add(std::move(value)); }
  bool start_object(size_t) { return open(json::object()); }
  bool start_array(size_t) { return open(json::array()); }
  bool end_object() { return close(); }
  bool end_array() { return close(); }

  bool key(std::string& name) {
    if (open_.back()->contains(name)) fail(fmt::format("duplicate key {}", in_quotes(name)));
    key_ = std::move(name);
    return true;
  }

  json take() { return std::move(root_); }

 private:
  // Returns where the value now lives. It stays there until its parent gets another element, that
  // is, for as long as it is in `open_`.
  json* place(json value) {
    if (open_.empty()) return &(root_ = std::move(value));
    json& parent = *open_.back();
    if (parent.is_object()) return &(parent[key_] = std::move(value));
    return &parent.emplace_back(std::move(value));
  }

  bool add(json value) {
    place(std::move(value));
    return true;
  }

  bool open(json container) {
    if (open_.size() == max_depth_) fail(fmt::format("nested deeper than {} levels", max_depth_));
    open_.push_back(place(std::move(container)));
    return true;
  }

  bool close() {
    open_.pop_back();
    return true;
  }

  size_t max_depth_;
  json root_;
  std::vector<json*> open_;
  std::string key_;
};

}  // namespace

JsonEvents::JsonEvents(std::string where, RaiseError raise)
    : where_(std::move(where)), raise_(raise) {}

bool JsonEvents::parse_error(size_t, const std::string& last_token, const json::exception& error) {
  std::string text = error.what();
  text.erase(0, text.find("] ") + 2);
  const std::string raw = "'" + last_token + "'";
  if (const size_t at = text.find(raw); at != std::string::npos)
    text.replace(at, raw.size(), in_quotes(last_token));
  fail(fmt::format("not JSON: {}", text));
}

void JsonEvents::fail(const std::string& problem) const {
  raise_(where_ + ": " + problem);
  std::abort();  // raise_ throws
}

json parse_json(std::string_view text, const std::string& where, RaiseError raise,
                const JsonLimits& limits) {
  TreeBuilder builder(where, raise, limits.max_depth);
  if (text.size() > limits.max_bytes)
    builder.fail(
        fmt::format("{} bytes of JSON, expected at most {}", text.size(), limits.max_bytes));
  parse_json_events(text, builder);
  return builder.take();
}

}  // namespace switchyard
