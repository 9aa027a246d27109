#include "trainer/checkpoint/manifest.h"

#include <algorithm>
#include <set>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "core/base/foreign_text.h"
#include "core/io/json.h"

namespace switchyard::trainer {
namespace {

using Json = nlohmann::json;

constexpr const char* kFormat = "switchyard checkpoint";
constexpr const char* kHexadecimal = "0123456789abcdef";
// About 200 bytes per tensor; the largest models have some 10^5.
constexpr JsonLimits kLimits{.max_bytes = uint64_t{512} << 20, .max_depth = 6};

// A value inside a document, which knows its place for messages.
class Field {
 public:
  // `where` must outlive the field and those reached from it.
  Field(const Json& value, const std::string& where, std::string path = "")
      : value_(value), where_(where), path_(std::move(path)) {}

  template <typename Kind = CheckpointError>
  [[noreturn]] void fail(const std::string& problem) const {
    throw Kind(fmt::format("{}: {}{}{}", where_, path_, path_.empty() ? "" : ": ", problem));
  }

  Field member(const std::string& name) const {
    expect(value_.is_object(), "an object");
    if (!value_.contains(name)) fail(fmt::format("\"{}\" is missing", name));
    return Field(value_[name], where_, path_.empty() ? name : path_ + "." + name);
  }

  void has_only(const std::vector<std::string_view>& names) const {
    for_each_member([&](const std::string& name, const Field&) {
      if (std::ranges::find(names, name) == names.end())
        fail(fmt::format("unexpected member {}, expected {}", in_quotes(name),
                         fmt::join(names, ", ")));
    });
  }

  // Calls visit(name, field) for each member of an object.
  template <typename Visit>
  void for_each_member(Visit visit) const {
    expect(value_.is_object(), "an object");
    for (const auto& [name, value] : value_.items())
      visit(name, Field(value, where_, path_ + "." + in_quotes(name)));
  }

  template <typename Read>
  auto list(Read read) const {
    expect(value_.is_array(), "an array");
    std::vector<decltype(read(*this))> out;
    for (size_t i = 0; i < value_.size(); ++i)
      out.push_back(read(Field(value_[i], where_, fmt::format("{}[{}]", path_, i))));
    return out;
  }

  // Requires: minimum >= 0.
  int64_t integer(int64_t minimum, int64_t maximum = INT64_MAX) const {
    const bool fits = value_.is_number_unsigned() && value_.get<uint64_t>() <= INT64_MAX &&
                      value_.get<int64_t>() >= minimum && value_.get<int64_t>() <= maximum;
    expect(fits, fmt::format("an integer from {} to {}", minimum, maximum));
    return value_.get<int64_t>();
  }

  double number() const {
    expect(value_.is_number(), "a number");
    return value_.get<double>();
  }

  const std::string& text() const {
    expect(value_.is_string(), "a string");
    return value_.get_ref<const std::string&>();
  }

  // A number written as exactly so many lower-case hexadecimal digits.
  uint64_t hexadecimal(size_t digits) const {
    const bool is_hex =
        text().size() == digits && text().find_first_not_of(kHexadecimal) == std::string::npos;
    expect(is_hex, fmt::format("{} lower-case hexadecimal digits", digits));
    return std::stoull(text(), nullptr, 16);
  }

 private:
  void expect(bool condition, const std::string& expected) const {
    if (condition) return;
    const std::string got = value_.dump(-1, ' ', true, Json::error_handler_t::replace);
    fail(fmt::format("expected {}, got {}", expected, in_quotes(got)));
  }

  const Json& value_;
  const std::string& where_;
  std::string path_;
};

DType dtype_of(const Field& field) {
  if (const auto dtype = dtype_named(field.text())) return *dtype;
  field.fail(fmt::format("unknown dtype {}", in_quotes(field.text())));
}

std::vector<int64_t> counts_of(const Field& field, int64_t most = INT64_MAX) {
  return field.list([&](const Field& item) { return item.integer(0, most); });
}

// ---- Files and tensors -----------------------------------------------------------------------

Json files_json(const Inventory& inventory) {
  Json json = Json::object();
  for (const auto& [name, bytes] : inventory.files) json[name] = {{"bytes", bytes}};
  return json;
}

Json tensors_json(const Inventory& inventory) {
  Json json = Json::object();
  for (const auto& [name, tensor] : inventory.tensors) {
    Json pieces = Json::array();
    for (const PieceRecord& piece : tensor.pieces)
      pieces.push_back({{"file", piece.file},
                        {"entry", piece.entry},
                        {"offset", piece.box.offset},
                        {"extent", piece.box.extent},
                        {"crc32c", fmt::format("{:08x}", piece.crc32c)}});
    json[name] = {{"dtype", name_of(tensor.dtype)}, {"shape", tensor.shape}, {"pieces", pieces}};
  }
  return json;
}

void read_files(const Field& files, Inventory& out) {
  files.for_each_member([&](const std::string& name, const Field& file) {
    if (!is_plain_name(name)) file.fail(fmt::format("a file name must have {}", kPlainName));
    if (name == kManifestFile || name == kCommitFile)
      file.fail("the manifest lists the others, not itself and COMMIT");
    file.has_only({"bytes"});
    out.files[name] = static_cast<uint64_t>(file.member("bytes").integer(0));
  });
}

std::vector<int64_t> read_shape(const Field& field) {
  const std::vector<int64_t> shape = counts_of(field);
  int64_t left =
      INT64_MAX / sizeof(double);  // zeros are left out, so that no part overflows either
  for (const int64_t size : shape) left /= std::max<int64_t>(size, 1);
  if (left == 0) field.fail(fmt::format("[{}] has too many elements", fmt::join(shape, ", ")));
  return shape;
}

PieceRecord read_piece(const Field& json, const Inventory& inventory,
                       const std::vector<int64_t>& shape) {
  json.has_only({"file", "entry", "offset", "extent", "crc32c"});
  const Field file = json.member("file");
  if (!inventory.files.contains(file.text()))
    file.fail(fmt::format("{} is not one of the files", in_quotes(file.text())));
  PieceRecord piece{file.text(),
                    json.member("entry").text(),
                    {counts_of(json.member("offset")), counts_of(json.member("extent"))},
                    static_cast<uint32_t>(json.member("crc32c").hexadecimal(8))};
  if (!lies_within(piece.box, shape))
    json.fail(fmt::format("offset [{}] and extent [{}] do not lie within shape [{}]",
                          fmt::join(piece.box.offset, ", "), fmt::join(piece.box.extent, ", "),
                          fmt::join(shape, ", ")));
  return piece;
}

void read_tensors(const Field& tensors, Inventory& out) {
  std::set<std::pair<std::string, std::string>> entries;
  tensors.for_each_member([&](const std::string& name, const Field& json) {
    json.has_only({"dtype", "shape", "pieces"});
    TensorRecord tensor{dtype_of(json.member("dtype")), read_shape(json.member("shape")), {}};
    tensor.pieces = json.member("pieces").list([&](const Field& item) {
      const PieceRecord piece = read_piece(item, out, tensor.shape);
      if (!entries.emplace(piece.file, piece.entry).second)
        item.fail(fmt::format("entry {} of {} is another piece already", in_quotes(piece.entry),
                              piece.file));
      return piece;
    });
    out.tensors[name] = std::move(tensor);
  });
}

// ---- Training state --------------------------------------------------------------------------

Json state_json(const TrainingState& state) {
  return {{"step", state.step},
          {"tokens", state.tokens},
          {"optimizer_steps", state.optimizer_steps},
          {"skipped_in_a_row", state.skipped_in_a_row},
          {"skipped_steps", state.skipped_steps},
          {"losses",
           {{"mean", state.losses.mean},
            {"variance", state.losses.variance},
            {"steps", state.losses.steps}}},
          {"data_sequence", state.data.sequence},
          {"data_draws", state.data.draws},
          {"data_fingerprint", fmt::format("{:016x}", state.data_fingerprint)},
          {"tokenizer_fingerprint", fmt::format("{:016x}", state.tokenizer_fingerprint)},
          {"processor", state.processor},
          {"last_active", state.last_active}};
}

// Far above any count of a run, and far enough below 2^63 that a run can go on counting.
constexpr int64_t kMostCounted = int64_t{1} << 60;

LossWindow read_losses(const Field& json, int64_t steps) {
  json.has_only({"mean", "variance", "steps"});
  const LossWindow losses{json.member("mean").number(), json.member("variance").number(),
                          json.member("steps").integer(0, steps)};
  if (losses.variance < 0)
    json.member("variance").fail(fmt::format("expected at least 0, got {}", losses.variance));
  return losses;
}

Cursor read_cursor(const Field& json) {
  const Cursor cursor{json.member("data_sequence").integer(0, kMostCounted),
                      counts_of(json.member("data_draws"))};
  int64_t left = cursor.sequence;
  for (const int64_t draws : cursor.draws) left = draws > left ? -1 : left - draws;
  if (left != 0)
    json.member("data_draws")
        .fail(fmt::format("expected numbers that add up to data_sequence, {}", cursor.sequence));
  return cursor;
}

TrainingState read_state(const Field& json) {
  json.has_only({"step", "tokens", "optimizer_steps", "skipped_in_a_row", "skipped_steps", "losses",
                 "data_sequence", "data_draws", "data_fingerprint", "tokenizer_fingerprint",
                 "processor", "last_active"});
  const auto count = [&](const char* name, int64_t most = kMostCounted) {
    return json.member(name).integer(0, most);
  };
  TrainingState state;
  state.step = count("step");
  state.tokens = count("tokens");
  state.skipped_steps = count("skipped_steps", state.step);
  state.skipped_in_a_row = static_cast<int32_t>(
      count("skipped_in_a_row", std::min<int64_t>(state.skipped_steps, INT32_MAX)));
  state.optimizer_steps = count("optimizer_steps");
  if (state.optimizer_steps != state.step - state.skipped_steps)
    json.member("optimizer_steps")
        .fail(fmt::format("expected step less skipped_steps, {}, got {}",
                          state.step - state.skipped_steps, state.optimizer_steps));
  state.losses = read_losses(json.member("losses"), state.step);
  state.data = read_cursor(json);
  state.data_fingerprint = json.member("data_fingerprint").hexadecimal(16);
  state.tokenizer_fingerprint = json.member("tokenizer_fingerprint").hexadecimal(16);
  state.processor = json.member("processor").text();
  state.last_active = json.member("last_active").list([&](const Field& router) {
    return counts_of(router, state.step);
  });
  return state;
}

void check_version(const Field& root) {
  const Field format = root.member("format"), version = root.member("format_version");
  if (format.text() != kFormat) format.fail(fmt::format("expected \"{}\"", kFormat));
  const int64_t number = version.integer(1);
  if (number != kCheckpointVersion)
    version.fail<OtherVersionError>(fmt::format(
        "is version {} of the checkpoint format, {} than version {}, the only one that this "
        "program reads; {}",
        number, number > kCheckpointVersion ? "newer" : "older", kCheckpointVersion,
        number > kCheckpointVersion ? "use a newer program"
                                    : "use the program that saved it, or begin anew"));
}

}  // namespace

bool is_optimizer_state(std::string_view tensor) {
  return tensor.find('/') != std::string_view::npos;
}

std::string manifest_text(const Manifest& manifest) {
  const Json json = {{"format", kFormat},
                     {"format_version", kCheckpointVersion},
                     {"num_ranks", manifest.num_ranks},
                     {"mesh", manifest.mesh},
                     {"files", files_json(manifest.inventory)},
                     {"tensors", tensors_json(manifest.inventory)},
                     {"state", state_json(manifest.state)}};
  return json.dump() + "\n";
}

Manifest parse_manifest(std::string_view text, const std::string& where) {
  const Json json = parse_json(text, where, raise<CheckpointError>, kLimits);
  const Field root(json, where);
  check_version(root);
  root.has_only({"format", "format_version", "num_ranks", "mesh", "files", "tensors", "state"});
  Manifest manifest;
  manifest.num_ranks = static_cast<int>(root.member("num_ranks").integer(1, INT32_MAX));
  root.member("mesh").for_each_member([&](const std::string& axis, const Field& degree) {
    manifest.mesh[axis] = static_cast<int32_t>(degree.integer(1, INT32_MAX));
  });
  read_files(root.member("files"), manifest.inventory);
  root.member("files").member(kConfigFile);  // must be there
  const Field tensors = root.member("tensors");
  read_tensors(tensors, manifest.inventory);
  for (const auto& [name, tensor] : manifest.inventory.tensors)
    if (const std::string problem = pieces_problem(name, tensor); !problem.empty())
      tensors.fail(problem);
  manifest.state = read_state(root.member("state"));
  return manifest;
}

std::string pieces_problem(const std::string& name, const TensorRecord& tensor) {
  std::vector<Box> boxes;
  for (const PieceRecord& piece : tensor.pieces) boxes.push_back(piece.box);
  const std::string problem = partition_problem(tensor.shape, boxes);
  return problem.empty() ? "" : fmt::format("the pieces of {}: {}", in_quotes(name), problem);
}

std::string inventory_text(const Inventory& inventory) {
  const Json json = {{"files", files_json(inventory)},
                     {"tensors", tensors_json(inventory)},
                     {"digests", inventory.digests}};
  return json.dump();
}

Inventory parse_inventory(std::string_view text) {
  const std::string where = "a rank's report";
  const Json json = parse_json(text, where, raise<CheckError>, kLimits);
  const Field root(json, where);
  Inventory inventory;
  read_files(root.member("files"), inventory);
  read_tensors(root.member("tensors"), inventory);
  root.member("digests").for_each_member([&](const std::string& file, const Field& digest) {
    inventory.digests[file] = digest.text();
  });
  return inventory;
}

std::string commit_text(const std::map<std::string, std::string>& digests) {
  std::string text;
  for (const auto& [name, digest] : digests) text += fmt::format("{}  {}\n", digest, name);
  return text;
}

std::map<std::string, std::string> parse_commit(std::string_view text, const std::string& where) {
  constexpr size_t kDigits = 64, kName = kDigits + 2;
  std::map<std::string, std::string> digests;
  for (int number = 1; !text.empty(); ++number) {
    const auto fail = [&](const std::string& problem) {
      throw CheckpointError(fmt::format("{}:{}: {}", where, number, problem));
    };
    const size_t end = text.find('\n');
    const std::string line(text.substr(0, end));
    const bool is_valid = end != std::string_view::npos && line.size() > kName &&
                          line.find_first_not_of(kHexadecimal) == kDigits &&
                          line.compare(kDigits, 2, "  ") == 0 && is_plain_name(line.substr(kName));
    if (!is_valid)
      fail("expected \"<64 hexadecimal digits>  <file name>\", got " + in_quotes(line));
    if (!digests.emplace(line.substr(kName), line.substr(0, kDigits)).second)
      fail(line.substr(kName) + " is listed twice");
    text.remove_prefix(end + 1);
  }
  return digests;
}

}  // namespace switchyard::trainer
