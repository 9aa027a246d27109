#pragma once
// What the SentencePiece library takes on trust. Its reader follows the offsets inside a model's
// table of normalisation rules without looking whether they lead outside, so a crafted or damaged
// model would read any memory.

#include <string>
#include <string_view>

namespace switchyard {

// `model`: the bytes of a `.model` file; `name` begins every message. DataError with the place
// unless every rule lies within its table, every score is finite, no piece has a NUL byte, and
// rules and user-defined pieces begin one another no more often than the library can hold. The
// library itself refuses the rest, such as a model without an unknown piece.
void check_sentencepiece_model(std::string_view model, const std::string& name);

}  // namespace switchyard
