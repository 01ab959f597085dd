# Looks for a CUDA toolkit and switches CUDA on where there is one: sets ONPA_CUDA_FOUND and
# ONPA_CUDA_TOOLKIT, enables the language and defines
#   onpa_cuda_toolkit      headers of the toolkit, for every target that calls the run time
#   onpa_cuda_libraries    what an executable with real kernels links: cudart (static); cuBLASLt
#                          and cuFFT are loaded at their first use
set(ONPA_CUDA AUTO CACHE STRING "Build the CUDA parts: AUTO (where a toolkit is found), ON or OFF")
set_property(CACHE ONPA_CUDA PROPERTY STRINGS AUTO ON OFF)
set(ONPA_CUDA_ARCHITECTURES "80-real;90" CACHE STRING
  "GPU architectures; one without -real also stores PTX, from which a driver builds for later GPUs")

set(ONPA_CUDA_FOUND FALSE CACHE INTERNAL "")
# What ./dev says at the end of a test run.
set(left_out ${CMAKE_BINARY_DIR}/cuda_left_out)
file(REMOVE ${left_out})
if(ONPA_CUDA STREQUAL "OFF")
  file(WRITE ${left_out} "CUDA parts left out: ONPA_CUDA is OFF\n")
  message(STATUS "CUDA: off")
  return()
endif()

# The first whole toolkit among: the one asked for, the one on PATH, the usual place, and what
# `./dev setup cuda` made.
set(data_home $ENV{XDG_DATA_HOME})
if(NOT data_home)
  set(data_home $ENV{HOME}/.local/share)
endif()
set(candidates $ENV{ONPA_CUDA_HOME} $ENV{CUDA_HOME})
find_program(nvcc_on_path nvcc NO_CACHE)
if(nvcc_on_path)
  file(REAL_PATH ${nvcc_on_path} nvcc)
  cmake_path(GET nvcc PARENT_PATH bin)
  cmake_path(GET bin PARENT_PATH prefix)
  list(APPEND candidates ${prefix})
endif()
list(APPEND candidates /usr/local/cuda ${data_home}/onpa/cuda)
set(toolkit)
set(reasons)
foreach(candidate ${candidates})
  set(lacking)
  foreach(file bin/nvcc include/cuda_runtime.h include/cublasLt.h include/cufft.h
      lib64/libcudart_static.a lib64/libcublasLt.so lib64/libcufft.so)
    if(NOT EXISTS ${candidate}/${file})
      list(APPEND lacking ${file})
    endif()
  endforeach()
  if(NOT lacking)
    file(REAL_PATH ${candidate} toolkit)
    execute_process(COMMAND ${toolkit}/bin/nvcc --version OUTPUT_VARIABLE said ERROR_QUIET)
    if(said MATCHES "release ([0-9.]+)" AND CMAKE_MATCH_1 VERSION_GREATER_EQUAL 12.0)
      break()
    endif()
    set(toolkit)
    set(lacking "C++20 (nvcc 12.0 or later)")
  endif()
  string(REPLACE ";" ", " lacking "${lacking}")
  string(APPEND reasons "\n  ${candidate} lacks ${lacking}")
endforeach()
if(NOT toolkit)
  if(ONPA_CUDA STREQUAL "ON")
    message(FATAL_ERROR "ONPA_CUDA is ON and there is no CUDA toolkit; ./dev setup cuda gets one${reasons}")
  endif()
  file(WRITE ${left_out} "CUDA parts left out: no CUDA toolkit; ./dev setup cuda gets one\n")
  message(STATUS "CUDA: left out, no toolkit; ./dev setup cuda gets one${reasons}")
  return()
endif()
set(ONPA_CUDA_TOOLKIT ${toolkit} CACHE INTERNAL "")

set(CMAKE_CUDA_COMPILER ${toolkit}/bin/nvcc)
set(CMAKE_CUDA_HOST_COMPILER ${CMAKE_CXX_COMPILER})
set(CMAKE_CUDA_ARCHITECTURES ${ONPA_CUDA_ARCHITECTURES})
set(CMAKE_CUDA_RUNTIME_LIBRARY None)
enable_language(CUDA)
if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)  # CMake 3.25 does not know that nvcc speaks it
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
  set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
endif()
set(CMAKE_CUDA_STANDARD 20)
set(CMAKE_CUDA_FLAGS_RELEASE "-O2 -DNDEBUG")
# The launcher keeps what ptxas says of each kernel beside the object; tools/ptxas_table.py reads it.
set(CMAKE_CUDA_COMPILER_LAUNCHER ${CMAKE_SOURCE_DIR}/tools/ptxas_log.sh ${CCACHE})
set(ONPA_CUDA_FOUND TRUE CACHE INTERNAL "")
message(STATUS "CUDA: ${toolkit} (nvcc ${CMAKE_CUDA_COMPILER_VERSION}) for ${ONPA_CUDA_ARCHITECTURES}")

add_library(onpa_cuda_toolkit INTERFACE)
target_include_directories(onpa_cuda_toolkit SYSTEM INTERFACE ${toolkit}/include)
target_compile_definitions(onpa_cuda_toolkit INTERFACE ONPA_CUDA=1)
add_library(onpa_cuda_libraries INTERFACE)
target_link_libraries(onpa_cuda_libraries INTERFACE
  ${toolkit}/lib64/libcudart_static.a Threads::Threads ${CMAKE_DL_LIBS} rt)
