#pragma once
// Names the parts of a training step to whoever profiles: LibTorch's profilers and our StepProfile.

#include <memory>

namespace at {
struct RecordFunction;
}

namespace switchyard {

// While it lives, the calling thread is in the part `name`, "sy::<part>" of static storage. Costs
// one check while nobody profiles. Files that name parts include this and not LibTorch's header,
// whose templates cost GCC two seconds in each.
class ProfiledPart {
 public:
  explicit ProfiledPart(const char* name);
  ~ProfiledPart();

 private:
  std::unique_ptr<at::RecordFunction> record_;  // null unless somebody profiles
};

}  // namespace switchyard
