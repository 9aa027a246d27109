#include "trainer/checkpoint/step_source.h"

#include <fmt/format.h>

#include "core/base/foreign_text.h"
#include "core/io/checksum.h"
#include "trainer/checkpoint/problems.h"

namespace switchyard::trainer {

std::vector<std::string> StepSource::names() const {
  std::vector<std::string> names;
  for (const auto& [name, record] : inventory_.tensors) names.push_back(name);
  return names;
}

StepSource::Description StepSource::describe(const std::string& name) const {
  const TensorRecord& record = inventory_.tensors.at(name);
  return {record.dtype, record.shape};
}

void StepSource::read(const std::string& name, const Box& box, DType dtype,
                      std::span<std::byte> out) {
  const TensorRecord& record = inventory_.tensors.at(name);
  for (const PieceRecord& piece : record.pieces) {
    if (!intersection(piece.box, box)) continue;
    with_bytes(piece, [&](std::span<const std::byte> bytes) {
      copy_common({record.dtype, piece.box, bytes}, box, dtype, out);
    });
  }
}

void StepSource::verify(const PieceRecord& piece) {
  with_bytes(piece, [](std::span<const std::byte>) {});
}

void StepSource::with_bytes(const PieceRecord& piece,
                            const std::function<void(std::span<const std::byte>)>& work) {
  const SafetensorsFile& file = open(piece.file);
  const SafetensorsEntry& entry = *file.find(piece.entry);
  const auto bytes = file.bytes(entry);
  const uint32_t actual = sound_.contains(&piece) ? piece.crc32c : crc32c(bytes);
  if (actual == piece.crc32c) {
    sound_.insert(&piece);
    work(bytes);
  }
  file.forget(entry);
  if (actual != piece.crc32c)
    throw CheckpointError(
        fmt::format("tensor {} is damaged: expected CRC-32C {:08x}, its bytes in {} have {:08x}",
                    in_quotes(piece.entry), piece.crc32c, piece.file, actual));
}

const SafetensorsFile& StepSource::open(const std::string& name) {
  if (const auto found = open_.find(name); found != open_.end()) return found->second;
  if (const auto found = refused_.find(name); found != refused_.end())
    throw CheckpointError(found->second);
  try {
    SafetensorsFile file(folder_ + "/" + name);
    check(name, file);
    return open_.emplace(name, std::move(file)).first->second;
  } catch (const CheckpointError& error) {
    refused_.emplace(name, error.what());
    throw;
  }
}

// The file must hold the pieces that the manifest places there, and no others.
void StepSource::check(const std::string& name, const SafetensorsFile& file) const {
  Problems problems(name);
  std::map<std::string, std::string> expected;
  for (const auto& [tensor, record] : inventory_.tensors)
    for (const PieceRecord& piece : record.pieces)
      if (piece.file == name) expected[piece.entry] = text_of({record.dtype, piece.box.extent});
  for (const SafetensorsEntry& entry : file.entries()) {
    const auto found = expected.find(entry.name);
    if (found == expected.end()) {
      problems.add("holds tensor {}, which the manifest does not place there",
                   in_quotes(entry.name));
      continue;
    }
    if (const std::string is = text_of({entry.dtype, entry.shape}); is != found->second)
      problems.add("tensor {} is {}, the manifest says {}", in_quotes(entry.name), is,
                   found->second);
    expected.erase(found);
  }
  for (const auto& [entry, description] : expected)
    problems.add("lacks tensor {}", in_quotes(entry));
  problems.throw_if_any();
}

}  // namespace switchyard::trainer
