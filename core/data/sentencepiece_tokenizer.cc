#include <array>

#include <sentencepiece_processor.h>

#include "core/base/errors.h"
#include "core/base/fingerprint.h"
#include "core/data/sentencepiece_check.h"
#include "core/data/tokenizer.h"
#include "core/data/utf8.h"

namespace switchyard {
namespace {

constexpr std::string_view kSpaceMark = "\xE2\x96\x81";  // U+2581, a space inside pieces

class SentencePieceTokenizer final : public Tokenizer {
 public:
  SentencePieceTokenizer(std::string_view model, const std::string& name);

  int32_t vocab_size() const override { return processor_.GetPieceSize(); }
  int32_t end_of_document() const override { return processor_.eos_id(); }
  std::vector<int32_t> encode(std::string_view text) const override;
  std::string decode(std::span<const int32_t> tokens) const override;
  std::string name() const override { return name_; }
  uint64_t fingerprint() const override { return fingerprint_; }

 private:
  void find_byte_pieces();
  bool adds_leading_space() const;
  void encode_run(std::string_view text, std::vector<int32_t>& tokens) const;
  std::string decode_exact(std::span<const int32_t> tokens) const;

  sentencepiece::SentencePieceProcessor processor_;
  std::array<int32_t, 256> byte_piece_{};
  std::vector<std::string> piece_text_;  // what each id decodes to, in exact mode
  bool exact_ = false;                   // byte pieces for all bytes, no leading space
  std::string name_;
  uint64_t fingerprint_;
};

SentencePieceTokenizer::SentencePieceTokenizer(std::string_view model, const std::string& name)
    : name_(name), fingerprint_(Fingerprint().add(model).value()) {
  check_sentencepiece_model(model, name);
  const auto status = processor_.LoadFromSerializedProto({model.data(), model.size()});
  if (!status.ok())
    throw DataError(fmt::format("{}: not a usable SentencePiece model ({} bytes): {}", name,
                                model.size(), status.ToString()));
  if (end_of_document() < 0)
    throw DataError(
        fmt::format("{}: the model has no end-of-sentence piece, which ends documents; train it "
                    "with eos_id >= 0",
                    name));
  find_byte_pieces();
}

// Decides on exact mode. There, decoding is a table look-up: SentencePiece's own decoder would turn
// bytes that are not UTF-8 into U+FFFD.
void SentencePieceTokenizer::find_byte_pieces() {
  exact_ = !adds_leading_space();
  for (int byte = 0; byte < 256; ++byte) {
    const int id = processor_.PieceToId(fmt::format("<0x{:02X}>", byte));
    exact_ = exact_ && processor_.IsByte(id);
    byte_piece_[static_cast<size_t>(byte)] = id;
  }
  if (!exact_) return;
  for (int id = 0; id < processor_.GetPieceSize(); ++id) {
    std::string text = processor_.IsControl(id) ? "" : processor_.IdToPiece(id);
    for (size_t at = 0; (at = text.find(kSpaceMark, at)) != std::string::npos; ++at)
      text.replace(at, kSpaceMark.size(), 1, ' ');
    piece_text_.push_back(std::move(text));
  }
  for (int byte = 0; byte < 256; ++byte)
    piece_text_[static_cast<size_t>(byte_piece_[static_cast<size_t>(byte)])] =
        std::string(1, static_cast<char>(byte));
}

bool SentencePieceTokenizer::adds_leading_space() const {
  const auto pieces = processor_.EncodeAsPieces("a");
  return pieces.empty() || pieces[0].starts_with(std::string(kSpaceMark));
}

void SentencePieceTokenizer::encode_run(std::string_view text, std::vector<int32_t>& tokens) const {
  if (text.empty()) return;
  std::vector<int> ids;
  const auto status = processor_.Encode({text.data(), text.size()}, &ids);
  if (!status.ok())
    throw DataError(fmt::format("SentencePiece cannot encode: {}", status.ToString()));
  tokens.insert(tokens.end(), ids.begin(), ids.end());
}

std::vector<int32_t> SentencePieceTokenizer::encode(std::string_view text) const {
  std::vector<int32_t> tokens;
  while (exact_ && !text.empty()) {
    const std::string_view valid = text.substr(0, valid_utf8_prefix(text));
    const std::string_view run = valid.substr(0, valid.find(kSpaceMark));
    encode_run(run, tokens);
    size_t raw = 0;  // bytes that must go through byte pieces
    if (run.size() < text.size()) raw = run.size() < valid.size() ? kSpaceMark.size() : 1;
    for (const char c : text.substr(run.size(), raw))
      tokens.push_back(byte_piece_[static_cast<uint8_t>(c)]);
    text.remove_prefix(run.size() + raw);
  }
  encode_run(text, tokens);
  return tokens;
}

std::string SentencePieceTokenizer::decode_exact(std::span<const int32_t> tokens) const {
  std::string text;
  for (const int32_t token : tokens) text += piece_text_[static_cast<size_t>(token)];
  return text;
}

std::string SentencePieceTokenizer::decode(std::span<const int32_t> tokens) const {
  for (const int32_t token : tokens)
    SY_CHECK(token >= 0 && token < vocab_size(), "token {} of {}", token, vocab_size());
  if (exact_) return decode_exact(tokens);
  std::string text;
  const auto status = processor_.Decode(std::vector<int>(tokens.begin(), tokens.end()), &text);
  if (!status.ok())
    throw DataError(fmt::format("SentencePiece cannot decode: {}", status.ToString()));
  return text;
}

}  // namespace

std::unique_ptr<Tokenizer> make_sentencepiece_tokenizer(std::string_view model,
                                                        const std::string& name) {
  return std::make_unique<SentencePieceTokenizer>(model, name);
}

}  // namespace switchyard
