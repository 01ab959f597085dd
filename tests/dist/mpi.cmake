# test_dist_mpi under mpirun.
file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/dist/mpi/*.cpp)
add_executable(test_dist_mpi ${sources} tests/dist/comm_checks.cpp tests/dist/train_checks.cpp)
target_link_libraries(test_dist_mpi PRIVATE onpa_dist GTest::gtest)
set_target_properties(test_dist_mpi PROPERTIES ONPA_CUDA_SIM ON)

foreach(ranks 2 4)
  add_test(NAME dist.mpi.ranks_${ranks}
    COMMAND ${MPIEXEC_EXECUTABLE} --oversubscribe --allow-run-as-root --bind-to none -np ${ranks}
      $<TARGET_FILE:test_dist_mpi>)
  set_tests_properties(dist.mpi.ranks_${ranks} PROPERTIES TIMEOUT 120 PROCESSORS 2)
endforeach()
add_test(NAME dist.mpi.ends
  COMMAND python3 ${CMAKE_SOURCE_DIR}/tests/dist/mpi_ends.py ${MPIEXEC_EXECUTABLE} $<TARGET_FILE:test_dist_mpi>)
set_tests_properties(dist.mpi.ends PROPERTIES TIMEOUT 120 PROCESSORS 2)
# Open MPI keeps memory to its end, which is no leak of onpa's.
set_tests_properties(dist.mpi.ranks_2 dist.mpi.ranks_4 dist.mpi.ends PROPERTIES
  ENVIRONMENT "ASAN_OPTIONS=detect_leaks=0")
