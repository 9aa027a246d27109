# switchyard_library(NAME LINK targets...): one static library per top-level folder, alias switchyard::NAME.
function(switchyard_library name)
  cmake_parse_arguments(ARG "" "" "LINK" ${ARGN})
  add_library(switchyard_${name} STATIC)
  add_library(switchyard::${name} ALIAS switchyard_${name})
  target_link_libraries(switchyard_${name} PUBLIC switchyard_flags ${ARG_LINK})
  if(SY_WITH_TORCH)
    switchyard_use_torch(switchyard_${name})
  endif()
endfunction()

# switchyard_precompile(NAME headers...): a precompiled header, as the object library NAME. Parsing the generated config
# header costs a file a second, so each has it; switchyard_config_proto (core/config) generates it first.
file(WRITE ${CMAKE_BINARY_DIR}/pch/empty.cc "")
function(switchyard_precompile name)
  add_library(${name} OBJECT ${CMAKE_BINARY_DIR}/pch/empty.cc)
  target_link_libraries(${name} PUBLIC switchyard_flags fmt::fmt)
  target_include_directories(${name} SYSTEM PRIVATE ${SY_GENERATED_DIR})
  target_precompile_headers(${name} PRIVATE ${ARGN} ${SY_GENERATED_DIR}/core/config/run_config.pb.h <fmt/format.h>)
  add_dependencies(${name} switchyard_config_proto)
endfunction()

switchyard_precompile(switchyard_plain_pch)
set(SY_PLAIN_PCH ${CMAKE_BINARY_DIR}/CMakeFiles/switchyard_plain_pch.dir/cmake_pch.hxx)
set(SY_PLAIN_PCH_FILE ${SY_PLAIN_PCH}.gch)
if(CMAKE_CXX_COMPILER_ID STREQUAL Clang)
  set(SY_PLAIN_PCH_FILE ${SY_PLAIN_PCH}.pch)
endif()
if(SY_WITH_TORCH)
  switchyard_precompile(switchyard_pch ${CMAKE_SOURCE_DIR}/core/tensor/aten.h)
  target_link_libraries(switchyard_pch PUBLIC switchyard_torch)
endif()

# switchyard_sources(NAME TORCH_FREE files... TORCH files...): adds sources to a library, from any folder below it.
# Torch-free files build without LibTorch and with a small precompiled header of their own, and
# at -O2, which is as good for all but those that say otherwise.
function(switchyard_sources name)
  cmake_parse_arguments(ARG "" "" "TORCH_FREE;TORCH" ${ARGN})
  target_sources(switchyard_${name} PRIVATE ${ARG_TORCH_FREE})
  set_source_files_properties(${ARG_TORCH_FREE} TARGET_DIRECTORY switchyard_${name} PROPERTIES
    SKIP_PRECOMPILE_HEADERS ON COMPILE_OPTIONS "$<$<CONFIG:Release>:-O2>;-include;${SY_PLAIN_PCH}" OBJECT_DEPENDS ${SY_PLAIN_PCH_FILE})
  if(SY_WITH_TORCH)
    target_sources(switchyard_${name} PRIVATE ${ARG_TORCH})
  endif()
endfunction()

# switchyard_proto(LIBRARY PATH TARGET): the code generated from PATH.proto as a part of a library; TARGET makes it. It lies
# in the build tree and is included as "PATH.pb.h". Its symbols are hidden because LibTorch and SentencePiece carry Protobuf
# copies of their own. One library alone may have it: a second image would register it twice.
function(switchyard_proto library path target)
  set(outputs ${SY_GENERATED_DIR}/${path}.pb.cc ${SY_GENERATED_DIR}/${path}.pb.h)
  get_filename_component(folder ${SY_GENERATED_DIR}/${path} DIRECTORY)
  get_filename_component(name ${path} NAME)
  file(MAKE_DIRECTORY ${folder})
  add_custom_command(
    OUTPUT ${outputs}
    COMMAND ${SY_PROTOC} --proto_path=${CMAKE_SOURCE_DIR} --cpp_out=${SY_GENERATED_DIR} ${path}.proto
    DEPENDS ${CMAKE_SOURCE_DIR}/${path}.proto
    COMMENT "Generating ${name}.pb.cc" VERBATIM)
  add_custom_target(${target} DEPENDS ${outputs})
  add_dependencies(switchyard_${library} ${target})
  target_include_directories(switchyard_${library} SYSTEM PUBLIC ${SY_GENERATED_DIR})
  switchyard_sources(${library} TORCH_FREE ${SY_GENERATED_DIR}/${path}.pb.cc)
  set_source_files_properties(${SY_GENERATED_DIR}/${path}.pb.cc TARGET_DIRECTORY switchyard_${library} PROPERTIES
    GENERATED ON COMPILE_OPTIONS "-fvisibility=hidden;-w;$<$<CONFIG:Release>:-O1>" OBJECT_DEPENDS "")
endfunction()

function(switchyard_use_torch target)
  target_link_libraries(${target} PUBLIC switchyard_torch)
  target_precompile_headers(${target} REUSE_FROM switchyard_pch)
endfunction()
