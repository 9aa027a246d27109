#include "core/data/sentencepiece_check.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "core/base/errors.h"
#include "core/data/sentencepiece_model.pb.h"
#include "core/data/utf8.h"

namespace switchyard {
namespace {

// A table of normalisation rules: uint32 size of the trie in bytes; the trie, a double array of
// uint32 units as Darts lays it out; the replacements, each ending in NUL. A rule's value is the
// offset of its replacement.
//
// A node is a position. Its child by byte c is the unit at `position ^ c`, if that unit's label is
// c; the child's own position is the unit's position ^ its offset. A child with the leaf bit ends a
// rule, whose value is in the unit at its position. Nodes may be shared.
class Charsmap {
 public:
  Charsmap(std::string_view bytes, std::string where) : where_(std::move(where)) {
    uint32_t trie_bytes = 0;
    if (bytes.size() < sizeof trie_bytes) fail("is too short");
    std::memcpy(&trie_bytes, bytes.data(), sizeof trie_bytes);
    bytes.remove_prefix(sizeof trie_bytes);
    if (trie_bytes == 0 || trie_bytes % sizeof(uint32_t) != 0 || trie_bytes >= bytes.size())
      fail(fmt::format("has a trie of {} bytes; expected a multiple of 4 above 0 and below {}",
                       trie_bytes, bytes.size()));
    units_.resize(trie_bytes / sizeof(uint32_t));
    std::memcpy(units_.data(), bytes.data(), trie_bytes);  // may be unaligned there
    replacements_ = bytes.substr(trie_bytes);
    most_values_.resize(units_.size(), kUnvisited);
  }

  void check() {
    if (replacements_.back() != '\0') fail("has a last replacement without its end");
    if (valid_utf8_prefix(replacements_) != replacements_.size())
      fail(fmt::format("has replacements that are not UTF-8 at byte {}",
                       valid_utf8_prefix(replacements_)));
    visit(offset_of(0), 0);
  }

 private:
  static constexpr int kUnvisited = -1;
  static constexpr int kMostValues = 32;     // the library's buffer, whose end it does not look at
  static constexpr int kLongestRule = 1024;  // bytes; real ones have some tens

  size_t offset_of(size_t unit) const {
    const uint32_t bits = units_[unit];
    return size_t{bits >> 10} << ((bits & 0x200) >> 6);
  }
  uint32_t label_of(size_t unit) const { return units_[unit] & 0x800000FF; }
  bool is_leaf(size_t unit) const { return (units_[unit] & 0x100) != 0; }

  // Checks the node and all below it; returns the most values on one path below it. A cycle is a
  // path that is too long.
  int visit(size_t node, int depth) {
    if ((node | 0xFF) >= units_.size())
      fail(fmt::format("leads to unit {} of {}", node | 0xFF, units_.size()));
    if (depth > kLongestRule) fail(fmt::format("has a rule of more than {} bytes", kLongestRule));
    if (most_values_[node] != kUnvisited) return most_values_[node];
    int most = 0;
    for (size_t byte = 0; byte < 256; ++byte) {
      const size_t unit = node ^ byte;
      if (label_of(unit) != byte) continue;
      const size_t child = unit ^ offset_of(unit);
      const int below = visit(child, depth + 1);
      if (is_leaf(unit)) check_value(units_[child] & 0x7FFFFFFF);
      most = std::max(most, below + (is_leaf(unit) ? 1 : 0));
    }
    if (most > kMostValues)
      fail(fmt::format("has more than {} rules that begin one another", kMostValues));
    return most_values_[node] = most;
  }

  void check_value(size_t value) const {
    if (value >= replacements_.size() || (value > 0 && replacements_[value - 1] != '\0'))
      fail(fmt::format("has a rule for the replacement at byte {}, where none begins ({} bytes)",
                       value, replacements_.size()));
  }

  [[noreturn]] void fail(const std::string& problem) const {
    throw DataError(
        fmt::format("{} {}; the model is damaged, get or train it again", where_, problem));
  }

  std::string where_;
  std::vector<uint32_t> units_;
  std::string_view replacements_;
  std::vector<int> most_values_;  // by node; those of a path below it
};

[[noreturn]] void fail(const std::string& name, const std::string& problem) {
  throw DataError(fmt::format("{}: not a usable SentencePiece model: {}", name, problem));
}

// The library looks up which user-defined piece begins a text in a buffer of fixed size.
void check_nesting(std::vector<std::string_view> pieces, const std::string& name) {
  constexpr size_t kDeepest = 64;
  std::ranges::sort(pieces);
  std::vector<std::string_view> open;  // each begins the next
  for (const std::string_view piece : pieces) {
    while (!open.empty() && !piece.starts_with(open.back())) open.pop_back();
    open.push_back(piece);
    if (open.size() > kDeepest)
      fail(name, fmt::format("more than {} user-defined pieces begin one another", kDeepest));
  }
}

void check_pieces(const piece_model::Model& model, const std::string& name) {
  constexpr int kUserDefined = 4;
  std::vector<std::string_view> user_defined;
  for (int id = 0; id < model.pieces_size(); ++id) {
    const piece_model::Piece& piece = model.pieces(id);
    if (piece.piece().find('\0') != std::string::npos)
      fail(name, fmt::format("piece {} has a NUL byte", id));
    if (!std::isfinite(piece.score()))
      fail(name, fmt::format("piece {} has the score {}", id, piece.score()));
    if (piece.type() == kUserDefined) user_defined.push_back(piece.piece());
  }
  check_nesting(std::move(user_defined), name);
}

void check_charsmap(const piece_model::Normalizer& spec, const std::string& where) {
  if (!spec.precompiled_charsmap().empty()) Charsmap(spec.precompiled_charsmap(), where).check();
}

}  // namespace

void check_sentencepiece_model(std::string_view bytes, const std::string& name) {
  piece_model::Model model;
  if (bytes.size() > std::numeric_limits<int>::max() ||
      !model.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())))
    fail(name, fmt::format("its {} bytes are damaged or cut short", bytes.size()));
  check_pieces(model, name);
  check_charsmap(model.normalizer_spec(), name + ": normalizer_spec.precompiled_charsmap");
  check_charsmap(model.denormalizer_spec(), name + ": denormalizer_spec.precompiled_charsmap");
}

}  // namespace switchyard
