# switchyard_unit_test(NAME [TORCH [ONE_THREAD]] SOURCES files... LINK libraries...)
# One GoogleTest program, label "unit", single process, no MPI launch. Its results go to test_results/ for scripts/matrix.
function(switchyard_unit_test name)
  cmake_parse_arguments(ARG "TORCH;ONE_THREAD" "" "SOURCES;LINK" ${ARGN})
  if(ARG_TORCH AND NOT SY_WITH_TORCH)
    return()
  endif()
  set(processors 1)
  # LibTorch's threads: CTest must not start other tests on the same cores. Ranks that are threads, and tensors of a few
  # elements, are two to four times faster with one.
  if(ARG_TORCH AND NOT ARG_ONE_THREAD)
    set(processors 2)
  endif()
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_LINK} switchyard_flags switchyard_unit_main)
  if(ARG_TORCH)
    switchyard_use_torch(${name})
  endif()
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  add_test(NAME ${name} COMMAND ${name} WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
  set_tests_properties(${name} PROPERTIES LABELS unit TIMEOUT 400 PROCESSORS ${processors}
    ENVIRONMENT "SY_TEST_ROOT=${CMAKE_SOURCE_DIR};SY_TEST_BUILD=${CMAKE_BINARY_DIR};XDG_CACHE_HOME=${CMAKE_BINARY_DIR}/cache;OMP_NUM_THREADS=${processors};OMP_WAIT_POLICY=passive;GTEST_OUTPUT=xml:${CMAKE_BINARY_DIR}/test_results/${name}.xml")
  set_property(GLOBAL APPEND PROPERTY SWITCHYARD_TESTS_WITH_RESULTS ${name})
endfunction()

# switchyard_without_avx512(NAME FILTER): the tests of a unit program that the filter names once more, as NAME_avx2, with
# the code that runs on processors without AVX-512. On such a processor the two are the same.
function(switchyard_without_avx512 name filter)
  if(NOT TARGET ${name})
    return()
  endif()
  add_test(NAME ${name}_avx2 COMMAND ${name} --gtest_filter=${filter} WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
  foreach(property LABELS TIMEOUT PROCESSORS RESOURCE_LOCK ENVIRONMENT)
    get_test_property(${name} ${property} value)
    if(NOT value STREQUAL "NOTFOUND")
      string(REPLACE "test_results/${name}.xml" "test_results/${name}_avx2.xml" value "${value}")
      set_tests_properties(${name}_avx2 PROPERTIES ${property} "${value}")
    endif()
  endforeach()
  set_property(TEST ${name}_avx2 APPEND PROPERTY ENVIRONMENT ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2)
  set_property(GLOBAL APPEND PROPERTY SWITCHYARD_TESTS_WITH_RESULTS ${name}_avx2)
endfunction()

# switchyard_dist_test(NAME NPROC 1 2 4 SOURCES files... LINK libraries...)
# One GoogleTest program run under mpirun once per rank count, label "dist". Its main is tests/testing/dist_main.cc.
function(switchyard_dist_test name)
  cmake_parse_arguments(ARG "" "" "NPROC;SOURCES;LINK" ${ARGN})
  if(NOT SY_WITH_TORCH)
    return()
  endif()
  add_executable(${name} ${ARG_SOURCES} ${CMAKE_SOURCE_DIR}/tests/testing/dist_main.cc)
  target_link_libraries(${name} PRIVATE ${ARG_LINK} switchyard_flags switchyard_testing MPI::MPI_C)
  switchyard_use_torch(${name})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  foreach(nproc IN LISTS ARG_NPROC)
    add_test(NAME ${name}_np${nproc}
      COMMAND ${CMAKE_SOURCE_DIR}/scripts/launch -n ${nproc} --oversubscribe --timeout 370 $<TARGET_FILE:${name}>
      WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
    set_tests_properties(${name}_np${nproc} PROPERTIES LABELS dist PROCESSORS ${nproc} TIMEOUT 400 RESOURCE_LOCK mpi
      ENVIRONMENT "SY_TEST_ROOT=${CMAKE_SOURCE_DIR};SY_TEST_BUILD=${CMAKE_BINARY_DIR};XDG_CACHE_HOME=${CMAKE_BINARY_DIR}/cache;OMP_NUM_THREADS=1;GTEST_OUTPUT=xml:${CMAKE_BINARY_DIR}/test_results/${name}_np${nproc}.xml")
    set_property(GLOBAL APPEND PROPERTY SWITCHYARD_TESTS_WITH_RESULTS ${name}_np${nproc})
  endforeach()
endfunction()
