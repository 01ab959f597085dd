// NCCL, loaded at its first use (library.h).
#include <nccl.h>

#include "kernels/cuda/lazy/library.h"

namespace {

void* library() {
  static void* handle = onpa::gpu::load_library("NCCL", ONPA_NCCL_SONAME, ONPA_NCCL_PATH);
  return handle;
}

}  // namespace

// The library's function of the same name, looked up once.
#define FORWARD(function, ...)                                              \
  static auto* const loaded = onpa::gpu::load_function<decltype(function)>( \
      library(), "NCCL", ONPA_NCCL_SONAME, #function);                      \
  return loaded(__VA_ARGS__)

extern "C" {

const char* ncclGetErrorString(ncclResult_t result) {
  FORWARD(ncclGetErrorString, result);
}
const char* ncclGetLastError(ncclComm_t comm) {
  FORWARD(ncclGetLastError, comm);
}
ncclResult_t ncclGetVersion(int* version) {
  FORWARD(ncclGetVersion, version);
}
ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  FORWARD(ncclGetUniqueId, id);
}
ncclResult_t ncclCommInitRankConfig(ncclComm_t* made, int ranks, ncclUniqueId id, int rank,
                                    ncclConfig_t* config) {
  FORWARD(ncclCommInitRankConfig, made, ranks, id, rank, config);
}
ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* error) {
  FORWARD(ncclCommGetAsyncError, comm, error);
}
ncclResult_t ncclCommFinalize(ncclComm_t comm) {
  FORWARD(ncclCommFinalize, comm);
}
ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  FORWARD(ncclCommDestroy, comm);
}
ncclResult_t ncclCommAbort(ncclComm_t comm) {
  FORWARD(ncclCommAbort, comm);
}
ncclResult_t ncclGroupStart() {
  static auto* const loaded = onpa::gpu::load_function<decltype(ncclGroupStart)>(
      library(), "NCCL", ONPA_NCCL_SONAME, "ncclGroupStart");
  return loaded();
}
ncclResult_t ncclGroupEnd() {
  static auto* const loaded = onpa::gpu::load_function<decltype(ncclGroupEnd)>(
      library(), "NCCL", ONPA_NCCL_SONAME, "ncclGroupEnd");
  return loaded();
}
ncclResult_t ncclAllReduce(const void* in, void* out, size_t count, ncclDataType_t type,
                           ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream) {
  FORWARD(ncclAllReduce, in, out, count, type, op, comm, stream);
}
ncclResult_t ncclBroadcast(const void* in, void* out, size_t count, ncclDataType_t type, int root,
                           ncclComm_t comm, cudaStream_t stream) {
  FORWARD(ncclBroadcast, in, out, count, type, root, comm, stream);
}
ncclResult_t ncclAllGather(const void* in, void* out, size_t count, ncclDataType_t type,
                           ncclComm_t comm, cudaStream_t stream) {
  FORWARD(ncclAllGather, in, out, count, type, comm, stream);
}
ncclResult_t ncclSend(const void* in, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  FORWARD(ncclSend, in, count, type, peer, comm, stream);
}
ncclResult_t ncclRecv(void* out, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  FORWARD(ncclRecv, out, count, type, peer, comm, stream);
}
ncclResult_t ncclReduceScatter(const void* in, void* out, size_t count, ncclDataType_t type,
                               ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream) {
  FORWARD(ncclReduceScatter, in, out, count, type, op, comm, stream);
}

}  // extern "C"
