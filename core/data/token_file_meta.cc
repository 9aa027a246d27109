#include "core/data/token_file_meta.h"

#include <charconv>
#include <filesystem>

#include <nlohmann/json.hpp>

#include "core/base/errors.h"
#include "core/io/file_system.h"
#include "core/io/json.h"

namespace switchyard {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kVersion = 1;
constexpr size_t kChecksumDigits = 8;

fs::path folder_of(const std::string& prefix) { return fs::absolute(prefix).parent_path(); }

std::string from_folder(const std::string& tokenizer, const std::string& prefix) {
  if (tokenizer == "bytes") return tokenizer;
  return fs::proximate(fs::absolute(tokenizer), folder_of(prefix)).string();
}

// Relative to the present folder if the prefix is.
std::string from_here(const std::string& tokenizer, const std::string& prefix) {
  if (tokenizer == "bytes") return tokenizer;
  const fs::path path = fs::weakly_canonical(folder_of(prefix) / tokenizer);
  return (fs::path(prefix).is_absolute() ? path : fs::proximate(path)).string();
}

// The fields of one file; a message of any names it.
class Fields {
 public:
  Fields(const nlohmann::json& json, std::string path) : json_(json), path_(std::move(path)) {
    if (!json.is_object()) fail("is no JSON object");
  }

  const std::string& text(const char* name) const {
    const auto found = json_.find(name);
    if (found == json_.end() || !found->is_string())
      fail(fmt::format("\"{}\" must be a string", name));
    return found->get_ref<const std::string&>();
  }

  int64_t number(const char* name, int64_t least) const {
    const auto found = json_.find(name);
    const bool is_number = found != json_.end() && found->is_number_integer();
    // One above the greatest int64 becomes negative.
    const int64_t value = is_number ? found->get<int64_t>() : -1;
    if (value < least) fail(fmt::format("\"{}\" must be an integer of at least {}", name, least));
    return value;
  }

  template <typename Number>
  Number hexadecimal(const char* name, std::string_view digits) const {
    Number value = 0;
    const auto end = digits.data() + digits.size();
    const auto [last, error] = std::from_chars(digits.data(), end, value, 16);
    if (error != std::errc() || last != end || digits.size() != 2 * sizeof value)
      fail(fmt::format("\"{}\" must be numbers of {} hexadecimal digits", name, 2 * sizeof value));
    return value;
  }

  [[noreturn]] void fail(const std::string& problem) const {
    throw DataError(
        fmt::format("{}: {}; tokenize the text again, or remove this file if another program made "
                    "the token file beside it",
                    path_, problem));
  }

 private:
  const nlohmann::json& json_;
  std::string path_;
};

}  // namespace

std::string token_file_meta_path(const std::string& prefix) { return prefix + ".meta.json"; }

std::string to_json(const TokenFileMeta& meta, const std::string& prefix) {
  std::string checksums;
  for (const uint32_t checksum : meta.bin_crc32c) checksums += fmt::format("{:08x}", checksum);
  const nlohmann::ordered_json json{
      {"version", kVersion},
      {"tokenizer", from_folder(meta.tokenizer, prefix)},
      {"tokenizer_fingerprint", fmt::format("{:016x}", meta.tokenizer_fingerprint)},
      {"vocab_size", meta.vocab_size},
      {"bin_bytes", meta.bin_bytes},
      {"idx_bytes", meta.idx_bytes},
      {"idx_crc32c", fmt::format("{:08x}", meta.idx_crc32c)},
      {"block_bytes", meta.block_bytes},
      {"bin_crc32c", checksums}};
  return json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

std::optional<TokenFileMeta> read_token_file_meta(const std::string& prefix) {
  constexpr JsonLimits kLimits{.max_bytes = uint64_t{1} << 30, .max_depth = 1};
  const std::string path = token_file_meta_path(prefix);
  std::error_code error;
  if (!fs::exists(path, error) && !error) return std::nullopt;
  require_regular_or_absent(path);
  const auto json =
      parse_json(read_text_file(path, kLimits.max_bytes), path, raise<DataError>, kLimits);
  const Fields fields(json, path);
  if (fields.number("version", 1) > kVersion)
    fields.fail(fmt::format("\"version\" is {}, and this program knows {}",
                            fields.number("version", 1), kVersion));
  TokenFileMeta meta;
  meta.tokenizer = from_here(fields.text("tokenizer"), prefix);
  meta.tokenizer_fingerprint =
      fields.hexadecimal<uint64_t>("tokenizer_fingerprint", fields.text("tokenizer_fingerprint"));
  meta.vocab_size = fields.number("vocab_size", 1);
  meta.bin_bytes = fields.number("bin_bytes", 0);
  meta.idx_bytes = fields.number("idx_bytes", 0);
  meta.idx_crc32c = fields.hexadecimal<uint32_t>("idx_crc32c", fields.text("idx_crc32c"));
  meta.block_bytes = fields.number("block_bytes", 1);
  const std::string_view checksums = fields.text("bin_crc32c");
  const auto blocks = static_cast<size_t>(meta.bin_bytes / meta.block_bytes +
                                          (meta.bin_bytes % meta.block_bytes > 0 ? 1 : 0));
  if (checksums.size() % kChecksumDigits != 0 || checksums.size() / kChecksumDigits != blocks)
    fields.fail(fmt::format("\"bin_crc32c\" must have {} digits for each of {} blocks",
                            kChecksumDigits, blocks));
  for (size_t i = 0; i < blocks; ++i)
    meta.bin_crc32c.push_back(fields.hexadecimal<uint32_t>(
        "bin_crc32c", checksums.substr(i * kChecksumDigits, kChecksumDigits)));
  return meta;
}

}  // namespace switchyard
