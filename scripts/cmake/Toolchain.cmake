# Compiler flags and build-speed helpers. -fopenmp is never used: LibTorch brings the one OpenMP runtime,
# and a second pool of threads would fight it.
find_program(SY_CCACHE ccache)
if(SY_CCACHE)
  # Depend mode: without it ccache preprocesses a precompiled header with the old one at hand, sees no change in the
  # headers behind it, and gives the old one back. A generated header is always "too new" unless its times are ignored.
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_DEPEND=1
      CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime ${SY_CCACHE})
endif()
find_program(SY_MOLD mold)
if(SY_MOLD)
  add_link_options(-fuse-ld=mold)
endif()

add_library(switchyard_flags INTERFACE)
target_compile_options(switchyard_flags INTERFACE -Wall -Wextra -Wshadow -Wno-unused-parameter -Winvalid-pch)
target_include_directories(switchyard_flags INTERFACE ${CMAKE_SOURCE_DIR})
# Failed checks name their file from the root of the repository.
target_compile_options(switchyard_flags INTERFACE -fmacro-prefix-map=${CMAKE_SOURCE_DIR}/=)
target_compile_definitions(switchyard_flags INTERFACE OMPI_SKIP_MPICXX MPICH_SKIP_MPICXX)
if(SY_SANITIZE)
  target_compile_options(switchyard_flags INTERFACE -fsanitize=${SY_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  target_link_options(switchyard_flags INTERFACE -fsanitize=${SY_SANITIZE})
  if(SY_SANITIZE MATCHES undefined)  # RTTI of LibTorch's classes lies in another library
    target_compile_options(switchyard_flags INTERFACE -fno-sanitize=vptr)
  endif()
endif()
# GCC 12 misfires at -O3: -Warray-bounds and -Wstringop-overflow inside fmt and nlohmann, -Wrestrict on "x" + string.
target_compile_options(switchyard_flags INTERFACE $<$<CONFIG:Release>:-Wno-array-bounds -Wno-stringop-overflow -Wno-restrict>)
