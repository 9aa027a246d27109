#include "core/io/best_effort_file.h"

#include <utility>

#include "core/base/errors.h"
#include "core/base/log.h"
#include "core/io/bytes.h"

namespace switchyard {
namespace {

OutputFile open(std::string path) {
  require_regular_or_absent(path);
  return OutputFile(std::move(path), OutputFile::Mode::kAppend);
}

}  // namespace

BestEffortFile::BestEffortFile(std::string path)
    : file_(open(std::move(path))), whole_bytes_(file_.size()) {}

void BestEffortFile::append(std::string_view record) {
  try {
    if (file_.size() != whole_bytes_) file_.truncate(whole_bytes_);
    file_.write(as_byte_span(record));
    whole_bytes_ = file_.size();
  } catch (const StorageError& error) {
    if (!has_warned_) warn("{}; the run goes on, but records are missing from there", error.what());
    has_warned_ = true;
  }
}

}  // namespace switchyard
