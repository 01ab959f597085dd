# Tests of faults on the command itself: ctest runs the fast subset, `./dev test faults` all.
add_executable(onpa_fault_tool tests/faults/tool.cpp)
target_link_libraries(onpa_fault_tool PRIVATE onpa_nn onpa_audio)
set_target_properties(onpa_fault_tool PROPERTIES ONPA_CUDA_SIM ON)
set(fault_command python3 ${CMAKE_SOURCE_DIR}/tests/faults/run.py --onpa $<TARGET_FILE:onpa> --tool
  $<TARGET_FILE:onpa_fault_tool>)
if(MPI_CXX_FOUND)
  list(APPEND fault_command --mpirun ${MPIEXEC_EXECUTABLE})
endif()
# What is preloaded does not go together with AddressSanitizer, which has to come first.
if(NOT ONPA_SANITIZE)
  enable_language(C)
  add_library(onpa_fault_shim MODULE tests/faults/shim.c)
  set_target_properties(onpa_fault_shim PROPERTIES C_STANDARD 11 C_EXTENSIONS ON)
  target_compile_options(onpa_fault_shim PRIVATE -Wall -Wextra -Werror -fno-builtin)
  target_link_libraries(onpa_fault_shim PRIVATE ${CMAKE_DL_LIBS} Threads::Threads)
  list(APPEND fault_command --shim $<TARGET_FILE:onpa_fault_shim>)
endif()
set(groups checkpoints values tracks settings resume)
if(TARGET onpa_sim)
  list(APPEND fault_command --sim $<TARGET_FILE:onpa_sim>)
  list(APPEND groups gpu)
endif()
if(NOT ONPA_SANITIZE)  # which has its own way to crash, and needs more memory than limits allow
  list(APPEND groups power_loss signals crashes decoders limits surroundings ranks)
endif()
foreach(group ${groups})
  add_test(NAME faults.${group} COMMAND ${fault_command} --group ${group})
  set_tests_properties(faults.${group} PROPERTIES LABELS faults-fast TIMEOUT 300)
endforeach()
# The command with all tests, for ./dev test faults.
list(JOIN fault_command " " text)
file(GENERATE OUTPUT ${CMAKE_BINARY_DIR}/faults.sh CONTENT "#!/bin/sh\nexec ${text} \"$@\"\n"
  FILE_PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE)
