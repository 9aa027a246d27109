#include "core/tensor/profiled_part.h"

#include <utility>

#include <ATen/record_function.h>

namespace switchyard {

ProfiledPart::ProfiledPart(const char* name) {
  auto listeners = at::getStepCallbacksUnlessEmpty(at::RecordScope::USER_SCOPE);
  if (!listeners) return;
  record_ = std::make_unique<at::RecordFunction>(std::move(*listeners));
  record_->before(name);
}

ProfiledPart::~ProfiledPart() = default;

}  // namespace switchyard
