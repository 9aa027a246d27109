#pragma once
// A file of records that grows beside a run (metrics, events) and whose loss must not stop it.

#include <cstdint>
#include <string>
#include <string_view>

#include "core/io/file.h"

namespace switchyard {

class BestEffortFile {
 public:
  // Appends to what is there. Throws StorageError: at start-up a bad folder, or something else than
  // a file at `path`, is worth stopping for.
  explicit BestEffortFile(std::string path);

  const std::string& path() const { return file_.path(); }

  // The whole record is with the operating system when it returns, and readers see it. If it cannot
  // be written (disk full), warns once and drops the record; later records are tried again, and no
  // piece of a dropped one stays before them.
  void append(std::string_view record);

 private:
  OutputFile file_;
  uint64_t whole_bytes_;  // up to the end of the last whole record
  bool has_warned_ = false;
};

}  // namespace switchyard
