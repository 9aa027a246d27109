#pragma once
// For sources that parse JSON event by event (SAX), without building a tree; includes all of
// nlohmann's header.

#include <cstdint>
#include <string>
#include <string_view>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "core/base/foreign_text.h"
#include "core/io/raise.h"

namespace switchyard {

// Base of an event handler: refuses every event. A handler hides the functions of the events that
// it accepts; nlohmann calls them by their static type, so none is virtual.
class JsonEvents {
 public:
  bool null() { fail("unexpected null"); }
  bool boolean(bool) { fail("unexpected boolean"); }
  bool number_integer(int64_t value) { fail(fmt::format("unexpected number {}", value)); }
  bool number_unsigned(uint64_t value) { fail(fmt::format("unexpected number {}", value)); }
  bool number_float(double, const std::string& digits) {
    fail(fmt::format("unexpected number {}", in_quotes(digits)));
  }
  bool string(std::string&) { fail("unexpected string"); }
  bool binary(nlohmann::json::binary_t&) { fail("unexpected binary value"); }
  bool start_object(size_t) { fail("unexpected object"); }
  bool key(std::string&) { fail("unexpected key"); }
  bool end_object() { fail("unexpected end of an object"); }
  bool start_array(size_t) { fail("unexpected array"); }
  bool end_array() { fail("unexpected end of an array"); }
  bool parse_error(size_t position, const std::string& last_token,
                   const nlohmann::json::exception& error);

  // Throws "WHERE: PROBLEM" through the caller's kind.
  [[noreturn]] void fail(const std::string& problem) const;

 protected:
  JsonEvents(std::string where, RaiseError raise);

 private:
  std::string where_;
  RaiseError raise_;
};

template <typename Handler>
void parse_json_events(std::string_view text, Handler& handler) {
  // nlohmann's lexer takes a NUL for the end of the text and ignores whatever follows.
  if (const size_t nul = text.find('\0'); nul != std::string_view::npos)
    handler.fail(fmt::format("not JSON: NUL byte at offset {}", nul));
  nlohmann::json::sax_parse(text, &handler);
}

}  // namespace switchyard
