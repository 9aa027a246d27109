# LibTorch from a pip wheel or an unpacked archive, by path: libtorch_cpu and libc10 only. The wheel's include folder
# also ships old copies of protobuf, fmt and others that would shadow the system's, so a folder of links to the four
# that we need stands in for it.
file(GLOB _sy_torch_candidates ${SY_TORCH_DIR}/lib/python3*/site-packages/torch ${SY_TORCH_DIR}/torch ${SY_TORCH_DIR})
foreach(_dir IN LISTS _sy_torch_candidates)
  if(NOT SY_TORCH_ROOT AND EXISTS ${_dir}/include/ATen/ATen.h)
    set(SY_TORCH_ROOT ${_dir})
  endif()
endforeach()
if(NOT SY_TORCH_ROOT)
  message(FATAL_ERROR "LibTorch: no include/ATen/ATen.h below SY_TORCH_DIR (${SY_TORCH_DIR}); run scripts/setup (--cuda "
                      "for the preset cuda), or pass -DSY_TORCH_DIR=DIR with a virtual environment, wheel folder or LibTorch archive")
endif()

set(_sy_torch_include ${CMAKE_BINARY_DIR}/torch_include)
file(MAKE_DIRECTORY ${_sy_torch_include})
foreach(_name ATen c10 torch caffe2)
  if(EXISTS ${SY_TORCH_ROOT}/include/${_name})
    file(CREATE_LINK ${SY_TORCH_ROOT}/include/${_name} ${_sy_torch_include}/${_name} SYMBOLIC)
  endif()
endforeach()

# Each operator's header includes ATen/DeviceGuard.h and uses nothing of it; it draws in the types of TorchScript, whose
# templates GCC instantiates anew in every file: 1.3 s. This one in its place leaves out what needs them, device_of().
set(_sy_torch_lean ${CMAKE_BINARY_DIR}/torch_lean)
file(CONFIGURE OUTPUT ${_sy_torch_lean}/ATen/DeviceGuard.h CONTENT
  "#pragma once\n#include <ATen/core/Tensor.h>\n#include <c10/core/DeviceGuard.h>\n#include <c10/core/ScalarType.h>\n")

add_library(switchyard_torch INTERFACE)
target_include_directories(switchyard_torch SYSTEM INTERFACE ${_sy_torch_lean} ${_sy_torch_include})
# Lets a file include the operators it calls one by one; see core/tensor/aten.h.
target_compile_definitions(switchyard_torch INTERFACE AT_PER_OPERATOR_HEADERS)
target_link_libraries(switchyard_torch INTERFACE ${SY_TORCH_ROOT}/lib/libtorch_cpu.so ${SY_TORCH_ROOT}/lib/libc10.so)
# A CUDA wheel's libtorch_cpu names CUDA libraries that its own RPATH finds at run time.
target_link_options(switchyard_torch INTERFACE -Wl,-rpath,${SY_TORCH_ROOT}/lib -Wl,--allow-shlib-undefined)
