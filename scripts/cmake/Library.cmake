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

# switchyard_sources(NAME TORCH_FREE files... TORCH files...): adds sources to a library, from any folder below it.
# Torch-free files build without LibTorch and without its precompiled header.
function(switchyard_sources name)
  cmake_parse_arguments(ARG "" "" "TORCH_FREE;TORCH" ${ARGN})
  target_sources(switchyard_${name} PRIVATE ${ARG_TORCH_FREE})
  set_source_files_properties(${ARG_TORCH_FREE} TARGET_DIRECTORY switchyard_${name} PROPERTIES SKIP_PRECOMPILE_HEADERS ON)
  if(SY_WITH_TORCH)
    target_sources(switchyard_${name} PRIVATE ${ARG_TORCH})
  endif()
endfunction()

function(switchyard_use_torch target)
  target_link_libraries(${target} PUBLIC switchyard_torch)
  target_precompile_headers(${target} REUSE_FROM switchyard_pch)
endfunction()
