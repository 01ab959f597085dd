// Ranks that have a GPU each: collectives of tensors there, by NVIDIA's NCCL.
#pragma once

#include <memory>

#include "dist/comm.h"

namespace onpa::dist {

/// Whether onpa was built with CUDA and NCCL.
bool has_nccl();

/// Chooses this rank's GPU, before anything else uses one: GPU `local_rank` of those that the
/// process sees; with -1 the first rank of a host gets GPU 0, the next GPU 1, ...; where it sees a
/// single one (srun --gpus-per-task=1) that one. To be called by all ranks. Throws Error (kDevice)
/// naming the rank if there is no such GPU, or naming two ranks that would share one.
void use_gpu_of_rank(Comm& control, int local_rank);

/// A Comm of the ranks of `control`, each with the GPU in use, to which NCCL is brought up over
/// `control`. That must outlive it, carries tensors on the CPU and barriers, and ends the job.
///
/// Tensors on the GPU: f32, f64, bf16, i64. Their collectives run on a stream of their own, after
/// what was queued so far on the stream of current_cuda(); Work::wait() makes that stream wait, not
/// the host. They can be captured with it, so in a DeviceStep, where all that was started has to be
/// waited for; they do nothing while memory is planned. A sum is NCCL's: the same bits on all
/// ranks, and from run to run on the same machines, but in an order of its own (bf16 is added up in
/// bf16). A maximum drops NaN.
///
/// The first collectives are compared over `control`: ranks that disagree throw Error (kInternal)
/// naming two of them, on all ranks. If NCCL reports an error, what waits for the GPU on this
/// thread (device.h, device_step.h, another collective) throws Error: kStopped if another rank is
/// lost, else kDevice; queued collectives are then abandoned, and all later ones throw the same.
///
/// Throws Error: kConfig if onpa was built without NCCL, kStalled if the ranks are not connected
/// within `join_seconds`, kStopped and kDevice with NCCL's words.
std::unique_ptr<Comm> make_nccl_comm(Comm& control, double join_seconds = 300);

}  // namespace onpa::dist
