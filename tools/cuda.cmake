# Looks for a CUDA toolkit and switches CUDA on where there is one: sets ONPA_CUDA_FOUND and
# ONPA_CUDA_TOOLKIT, enables the language and defines
#   onpa_cuda_toolkit      headers of the toolkit, for every target that calls the run time
#   onpa_cuda_libraries    what an executable with real kernels links: cudart (static), cuBLASLt
set(ONPA_CUDA AUTO CACHE STRING "Build the CUDA parts: AUTO (where a toolkit is found), ON or OFF")
set_property(CACHE ONPA_CUDA PROPERTY STRINGS AUTO ON OFF)
set(ONPA_CUDA_ARCHITECTURES "80-real;90" CACHE STRING
  "GPU architectures; one without -real also stores PTX, from which a driver builds for later GPUs")

set(ONPA_CUDA_FOUND FALSE CACHE INTERNAL "")
if(ONPA_CUDA STREQUAL "OFF")
  message(STATUS "CUDA: off")
  return()
endif()

set(data_home $ENV{XDG_DATA_HOME})
if(NOT data_home)
  set(data_home $ENV{HOME}/.local/share)
endif()
find_program(ONPA_NVCC nvcc
  HINTS $ENV{ONPA_CUDA_HOME}/bin $ENV{CUDA_HOME}/bin ENV PATH /usr/local/cuda/bin
    ${data_home}/onpa/cuda/bin
  NO_DEFAULT_PATH DOC "NVIDIA's compiler, which says where the toolkit is")
set(missing)
if(ONPA_NVCC)
  file(REAL_PATH ${ONPA_NVCC} nvcc)
  cmake_path(GET nvcc PARENT_PATH bin)
  cmake_path(GET bin PARENT_PATH ONPA_CUDA_TOOLKIT)
  foreach(file include/cuda_runtime.h include/cublasLt.h lib64/libcudart_static.a)
    if(NOT EXISTS ${ONPA_CUDA_TOOLKIT}/${file})
      list(APPEND missing ${ONPA_CUDA_TOOLKIT}/${file})
    endif()
  endforeach()
  file(GLOB cublaslt ${ONPA_CUDA_TOOLKIT}/lib64/libcublasLt.so ${ONPA_CUDA_TOOLKIT}/lib64/libcublasLt.so.*)
  if(NOT cublaslt)
    list(APPEND missing ${ONPA_CUDA_TOOLKIT}/lib64/libcublasLt.so)
  endif()
else()
  set(missing nvcc)
endif()
if(missing)
  if(ONPA_CUDA STREQUAL "ON")
    message(FATAL_ERROR "ONPA_CUDA is ON and the toolkit lacks: ${missing}; ./dev setup cuda gets one")
  endif()
  message(STATUS "CUDA: left out, missing: ${missing}; ./dev setup cuda gets a toolkit")
  return()
endif()
list(GET cublaslt 0 cublaslt)

set(CMAKE_CUDA_COMPILER ${nvcc})
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
message(STATUS "CUDA: ${ONPA_CUDA_TOOLKIT} (nvcc ${CMAKE_CUDA_COMPILER_VERSION}) for ${ONPA_CUDA_ARCHITECTURES}")

add_library(onpa_cuda_toolkit INTERFACE)
target_include_directories(onpa_cuda_toolkit SYSTEM INTERFACE ${ONPA_CUDA_TOOLKIT}/include)
target_compile_definitions(onpa_cuda_toolkit INTERFACE ONPA_CUDA=1)
add_library(onpa_cuda_libraries INTERFACE)
target_link_libraries(onpa_cuda_libraries INTERFACE
  ${ONPA_CUDA_TOOLKIT}/lib64/libcudart_static.a ${cublaslt} Threads::Threads ${CMAKE_DL_LIBS} rt)
