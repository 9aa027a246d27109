#include "core/tensor/op_support.h"

#include <torch/csrc/autograd/custom_function.h>

namespace switchyard {

void save_parameter(torch::autograd::AutogradContext* context, const char* key,
                    Parameter& parameter) {
  context->saved_data[key] = reinterpret_cast<int64_t>(&parameter);
}

Parameter& saved_parameter(torch::autograd::AutogradContext* context, const char* key) {
  return *reinterpret_cast<Parameter*>(context->saved_data[key].toInt());
}

}  // namespace switchyard
