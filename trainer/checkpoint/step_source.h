#pragma once
// The tensors of a step's folder, whole or in parts, whatever mesh wrote them. Free of LibTorch;
// not collective.

#include <functional>
#include <map>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "core/io/safetensors.h"
#include "core/io/tensor_source.h"
#include "trainer/checkpoint/manifest.h"

namespace switchyard::trainer {

// Maps the shards as they are needed, and keeps no more than one piece in memory. Each number that
// it gives was in a piece that matched its checksum.
class StepSource : public TensorSource {
 public:
  // The inventory must outlive it.
  StepSource(std::string folder, const Inventory& inventory)
      : folder_(std::move(folder)), inventory_(inventory) {}

  std::vector<std::string> names() const override;
  Description describe(const std::string& name) const override;
  void read(const std::string& name, const Box& box, DType dtype,
            std::span<std::byte> out) override;

  // Throws CheckpointError where the bytes of the piece, one of the inventory's, do not match its
  // checksum.
  void verify(const PieceRecord& piece);

 private:
  // Hands the bytes of a piece that matches its checksum to `work`, which must not keep them.
  void with_bytes(const PieceRecord& piece,
                  const std::function<void(std::span<const std::byte>)>& work);
  const SafetensorsFile& open(const std::string& file);
  void check(const std::string& name, const SafetensorsFile& file) const;

  std::string folder_;
  const Inventory& inventory_;
  std::map<std::string, SafetensorsFile> open_;
  std::map<std::string, std::string> refused_;  // file -> reason, so that each is parsed once
  std::set<const PieceRecord*> sound_;          // so that each is compared once, however often read
};

}  // namespace switchyard::trainer
