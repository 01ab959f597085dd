// The NVTX ranges of a training run, as a tool that is linked in hears them. Training is on the
// simulated GPU where the test program has no other.
#ifdef ONPA_CUDA

#define NVTX_NO_IMPL  // this is the tool's side
#include <gtest/gtest.h>
#include <nvtx3/nvToolsExt.h>

#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "apps/training/trainer.h"
#include "tensor/device.h"
#include "tests/apps/train_support.h"

namespace onpa::testing {
namespace {

// What one thread has pushed and popped since clear().
struct Ranges {
  std::map<std::string, int> pushed;
  std::vector<std::string> open;
  int unmatched_pops = 0;
  // "backward": {"attention_bwd", ...}
  std::map<std::string, std::map<std::string, int>> inside;
};

class Tool {
 public:
  static Tool& instance() {
    static Tool tool;
    return tool;
  }
  void push(const char* name) {
    const std::lock_guard lock(mutex_);
    Ranges& r = threads_[std::this_thread::get_id()];
    ++r.pushed[name];
    for (const std::string& outer : r.open) ++r.inside[outer][name];
    r.open.push_back(name);
  }
  void pop() {
    const std::lock_guard lock(mutex_);
    Ranges& r = threads_[std::this_thread::get_id()];
    r.open.empty() ? void(++r.unmatched_pops) : r.open.pop_back();
  }
  void clear() {
    const std::lock_guard lock(mutex_);
    threads_.clear();
  }
  std::map<std::thread::id, Ranges> threads() {
    const std::lock_guard lock(mutex_);
    return threads_;
  }
  int domain = 0;  // its address is the domain's handle

 private:
  std::mutex mutex_;
  std::map<std::thread::id, Ranges> threads_;
};

nvtxDomainHandle_t NVTX_API create_domain(const char* name) {
  return std::string(name) == "onpa"
             ? reinterpret_cast<nvtxDomainHandle_t>(&Tool::instance().domain)
             : nullptr;
}
int NVTX_API push_range(nvtxDomainHandle_t, const nvtxEventAttributes_t* range) {
  Tool::instance().push(range->message.ascii);
  return 0;
}
int NVTX_API pop_range(nvtxDomainHandle_t) {
  Tool::instance().pop();
  return 0;
}

int NVTX_API attach(NvtxGetExportTableFunc_t export_table) {
  const auto* callbacks =
      static_cast<const NvtxExportTableCallbacks*>(export_table(NVTX_ETID_CALLBACKS));
  NvtxFunctionTable table = nullptr;
  unsigned int size = 0;
  if (callbacks == nullptr ||
      callbacks->GetModuleFunctionTable(NVTX_CB_MODULE_CORE2, &table, &size) == 0) {
    return 0;
  }
  *table[NVTX_CBID_CORE2_DomainCreateA] = reinterpret_cast<NvtxFunctionPointer>(create_domain);
  *table[NVTX_CBID_CORE2_DomainRangePushEx] = reinterpret_cast<NvtxFunctionPointer>(push_range);
  *table[NVTX_CBID_CORE2_DomainRangePop] = reinterpret_cast<NvtxFunctionPointer>(pop_range);
  return 1;
}

}  // namespace
}  // namespace onpa::testing

// The name under which NVTX looks for a tool that is linked in.
extern "C" {
extern NvtxInitializeInjectionNvtxFunc_t InitializeInjectionNvtx2_fnptr;
NvtxInitializeInjectionNvtxFunc_t InitializeInjectionNvtx2_fnptr = onpa::testing::attach;
}

namespace onpa::testing {
namespace {

class Nvtx : public ::testing::Test {
 protected:
  // Ranges of the thread that trains.
  Ranges train(const std::string& device) {
    feature_data(40).save(folder_ / "data");
    apps::TrainOptions options;
    options.data = folder_ / "data";
    options.run = folder_ / ("run_" + device);
    options.device = device;
    options.quiet = true;
    options.config =
        apps::load_config("dense", {},
                          {"train.epochs=1", "train.max_steps=4", "train.batch_size=8",
                           "model.hidden=[8]", "model.dropout=0.1", "train.precision=bf16"});
    Tool::instance().clear();
    EXPECT_EQ(apps::train(options), 0);
    for (const auto& [id, ranges] : Tool::instance().threads()) {
      EXPECT_EQ(ranges.unmatched_pops, 0);
      EXPECT_TRUE(ranges.open.empty());
    }
    if (Tool::instance().threads().empty()) {
      ADD_FAILURE() << "NVTX did not take the tool; headers of CUDA 12.0 cannot";
    }
    return Tool::instance().threads()[std::this_thread::get_id()];
  }
  TempFolder folder_;
};

TEST_F(Nvtx, StepsOnTheCpuHaveRangesOfPhasesAndOps) {
  Ranges r = train("cpu");
  EXPECT_EQ(r.pushed["load"], 4);
  EXPECT_EQ(r.pushed["forward"], 4);
  EXPECT_EQ(r.pushed["backward"], 4);
  EXPECT_EQ(r.pushed["update"], 4);
  EXPECT_EQ(r.pushed["evaluate"], 1);
  EXPECT_EQ(r.pushed["checkpoint"], 1);
  EXPECT_EQ(r.inside["forward"]["linear_fwd"], 4 * 2);
  EXPECT_EQ(r.inside["forward"]["dropout_fwd"], 4);
  EXPECT_EQ(r.inside["backward"]["linear_bwd_weight"], 4 * 2);
  EXPECT_EQ(r.inside["backward"]["loss_bwd"], 4);
  EXPECT_EQ(r.inside["update"]["gradient_norm"], 4);
  EXPECT_EQ(r.inside["update"]["adamw"], 4);
  EXPECT_GT(r.inside["evaluate"]["linear_fwd"], 0);
  EXPECT_EQ(r.inside["evaluate"]["linear_bwd_weight"], 0);
}

// The first step runs kernel by kernel, the second is captured, the others are replayed as a whole.
TEST_F(Nvtx, StepsOnTheGpuHaveRangesOfPhasesAndOps) {
  if (const std::string problem = cuda_problem(); !problem.empty()) GTEST_SKIP() << problem;
  Ranges r = train("cuda");
  EXPECT_EQ(r.pushed["load"], 4);
  EXPECT_GE(r.pushed["upload"], 4 * 2);
  EXPECT_EQ(r.pushed["forward"], 2);
  EXPECT_EQ(r.inside["forward"]["linear_fwd"], 2 * 2);
  EXPECT_EQ(r.inside["backward"]["linear_bwd_weight"], 2 * 2);
  EXPECT_EQ(r.inside["update"]["adamw"], 2);
  EXPECT_EQ(r.pushed["capture"], 2);  // forward and backward are one graph, the update another
  EXPECT_EQ(r.pushed["replay"], 2 * 2);
}

}  // namespace
}  // namespace onpa::testing

#endif  // ONPA_CUDA
