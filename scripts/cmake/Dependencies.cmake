# Every third-party package, found once and given one target name.
find_package(Threads REQUIRED)
find_package(MPI REQUIRED COMPONENTS C)
find_package(fmt REQUIRED)
find_package(spdlog REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(CLI11 REQUIRED)
find_package(OpenSSL REQUIRED COMPONENTS Crypto)
find_package(GTest REQUIRED)

# Protobuf: the static library, its symbols hidden at the final link (--exclude-libs), because both LibTorch and
# SentencePiece carry copies of their own.
find_program(SY_PROTOC protoc REQUIRED)
find_library(SY_PROTOBUF_LIB NAMES libprotobuf.a REQUIRED)
add_library(switchyard_protobuf INTERFACE)
target_link_libraries(switchyard_protobuf INTERFACE ${SY_PROTOBUF_LIB} Threads::Threads)
if(SY_SANITIZE MATCHES fuzzer)  # Clang's runtime is an archive too, and all must see its operator new
  target_link_options(switchyard_protobuf INTERFACE -Wl,--exclude-libs,libprotobuf.a -Wl,--exclude-libs,libswitchyard_core.a)
else()
  target_link_options(switchyard_protobuf INTERFACE -Wl,--exclude-libs,ALL)
endif()

find_library(SY_SENTENCEPIECE sentencepiece REQUIRED)
find_library(SY_SENTENCEPIECE_TRAIN sentencepiece_train REQUIRED)
find_path(SY_SENTENCEPIECE_INCLUDE sentencepiece_processor.h REQUIRED)
add_library(switchyard_sentencepiece INTERFACE)
target_link_libraries(switchyard_sentencepiece INTERFACE ${SY_SENTENCEPIECE_TRAIN} ${SY_SENTENCEPIECE})
target_include_directories(switchyard_sentencepiece SYSTEM INTERFACE ${SY_SENTENCEPIECE_INCLUDE})

if(SY_WITH_TORCH)
  include(Torch)
endif()
