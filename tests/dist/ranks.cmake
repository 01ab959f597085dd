# test_dist_ranks: processes under mpirun, and processes that meet over TCP.
file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/dist/ranks/*.cpp)
add_executable(test_dist_ranks ${sources} tests/dist/comm_checks.cpp tests/dist/train_checks.cpp)
target_link_libraries(test_dist_ranks PRIVATE onpa_dist GTest::gtest)
set_target_properties(test_dist_ranks PROPERTIES ONPA_CUDA_SIM ON)

if(ONPA_NCCL_FOUND)
  # On the simulated GPU with NCCL's stand-in, and on real ones with NCCL.
  foreach(name test_dist_gpu_ranks test_dist_nccl)
    add_executable(${name} tests/dist/gpu_ranks/gpu_ranks_test.cpp tests/dist/comm_checks.cpp
      tests/dist/train_checks.cpp)
    target_link_libraries(${name} PRIVATE onpa_dist GTest::gtest)
  endforeach()
  set_target_properties(test_dist_gpu_ranks PROPERTIES ONPA_CUDA_SIM ON)
endif()

function(onpa_ranks_test name)
  add_test(NAME ${name} COMMAND ${ARGN})
  # Open MPI keeps memory to its end, which is no leak of onpa's.
  set_tests_properties(${name} PROPERTIES TIMEOUT 120 PROCESSORS 2
    ENVIRONMENT "ASAN_OPTIONS=detect_leaks=0")
endfunction()

set(jobs ${CMAKE_SOURCE_DIR}/tests/dist)
if(MPI_CXX_FOUND)
  foreach(ranks 2 4)
    onpa_ranks_test(dist.mpi.ranks_${ranks} ${MPIEXEC_EXECUTABLE} --oversubscribe --allow-run-as-root
      --bind-to none -np ${ranks} $<TARGET_FILE:test_dist_ranks>)
  endforeach()
  onpa_ranks_test(dist.mpi.ends python3 ${jobs}/mpi_ends.py ${MPIEXEC_EXECUTABLE} $<TARGET_FILE:test_dist_ranks>)
endif()
foreach(ranks 2 3)
  onpa_ranks_test(dist.tcp.ranks_${ranks} python3 ${jobs}/tcp_jobs.py $<TARGET_FILE:test_dist_ranks> ${ranks})
endforeach()
if(ONPA_NCCL_FOUND)
  foreach(ranks 2 3)
    onpa_ranks_test(dist.nccl.tcp.ranks_${ranks} python3 ${jobs}/tcp_jobs.py $<TARGET_FILE:test_dist_gpu_ranks> ${ranks})
  endforeach()
  onpa_ranks_test(dist.nccl.gpus python3 ${jobs}/tcp_jobs.py $<TARGET_FILE:test_dist_nccl> gpus)
  set_tests_properties(dist.nccl.gpus PROPERTIES LABELS gpu TIMEOUT 600)
  onpa_ranks_test(dist.nccl.ends python3 ${jobs}/tcp_jobs.py $<TARGET_FILE:test_dist_gpu_ranks> gpu_ends)
  if(MPI_CXX_FOUND)
    onpa_ranks_test(dist.nccl.mpi.ranks_3 ${MPIEXEC_EXECUTABLE} --oversubscribe --allow-run-as-root
      --bind-to none -np 3 $<TARGET_FILE:test_dist_gpu_ranks>)
  endif()
endif()
onpa_ranks_test(dist.tcp.ends python3 ${jobs}/tcp_jobs.py $<TARGET_FILE:test_dist_ranks> ends)
onpa_ranks_test(dist.tcp.meeting python3 ${jobs}/tcp_jobs.py $<TARGET_FILE:test_dist_ranks> meeting)
