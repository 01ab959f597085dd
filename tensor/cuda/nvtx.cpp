// nvtx.h on NVTX 3, which is headers alone: without a tool every call is a test of a null pointer.
#include "tensor/nvtx.h"

#include <nvtx3/nvToolsExt.h>

namespace onpa::detail {
namespace {

// Null where no tool is attached.
nvtxDomainHandle_t domain() {
  static const nvtxDomainHandle_t made = nvtxDomainCreateA("onpa");
  return made;
}

}  // namespace

bool nvtx_attached() {
  return domain() != nullptr;
}

void nvtx_push(const char* name) {
  nvtxEventAttributes_t range = {};
  range.version = NVTX_VERSION;
  range.size = NVTX_EVENT_ATTRIB_STRUCT_SIZE;
  range.messageType = NVTX_MESSAGE_TYPE_ASCII;
  range.message.ascii = name;
  nvtxDomainRangePushEx(domain(), &range);
}

void nvtx_pop() {
  nvtxDomainRangePop(domain());
}

}  // namespace onpa::detail
