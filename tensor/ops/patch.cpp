#include "tensor/ops/patch.h"

#include <algorithm>
#include <string>

#include "kernels/patch.h"
#include "tensor/dispatch.h"
#include "tensor/ops/work.h"

namespace onpa::ops {
namespace {

void check_parameter(const Tensor& x, const Tensor& parameter, const char* name,
                     const Shape& want) {
  ONPA_CHECK(parameter.defined(), "patch_tokens: ", name, " is undefined, want shape ", want);
  ONPA_CHECK(parameter.shape() == want, "patch_tokens: ", name, " has shape ", parameter.shape(),
             ", want ", want);
  ONPA_CHECK(parameter.dtype() == x.dtype() && parameter.device() == x.device(),
             "patch_tokens: ", name, " is ", name_of(parameter.dtype()), ", x is ",
             name_of(x.dtype()), "; dtype and device must agree");
}

// Names are those of the published checkpoints, which is where a wrong shape comes from.
void check_params(const Tensor& x, const PatchParams& p, const PatchGrid& grid) {
  ONPA_CHECK(p.weight.defined() && p.weight.shape().rank() == 4 && p.weight.size(0) >= 1 &&
                 p.weight.size(1) == 1 && p.weight.size(2) >= 1 && p.weight.size(3) >= 1,
             "patch_tokens: patch_embed.proj.weight has shape ", p.weight.shape(),
             ", want (C, 1, PF, PT)");
  const std::int64_t width = p.weight.size(0);
  check_parameter(x, p.weight, "patch_embed.proj.weight", p.weight.shape());
  check_parameter(x, p.bias, "patch_embed.proj.bias", {width});
  check_parameter(x, p.cls, "cls_token", {1, 1, width});
  check_parameter(x, p.dist, "dist_token", {1, 1, width});
  check_parameter(x, p.prefix_pos, "new_pos_embed", {1, 2, width});
  check_parameter(x, p.freq_pos, "freq_new_pos_embed", {1, width, grid.grid_f, 1});
  const std::int64_t columns = p.time_pos.defined() && p.time_pos.shape().rank() == 4
                                   ? p.time_pos.size(3)
                                   : grid.time_offset + grid.grid_t;
  check_parameter(x, p.time_pos, "time_new_pos_embed", {1, width, 1, columns});
  ONPA_CHECK(grid.time_offset >= 0 && grid.time_offset + grid.grid_t <= columns,
             "patch_tokens: time_new_pos_embed has shape ", p.time_pos.shape(), ", want at least ",
             Shape{1, width, 1, grid.time_offset + grid.grid_t}, " for ", grid.grid_t,
             " patches along time from column ", grid.time_offset);
}

void check_device_tensor(const Tensor& x, const Tensor& tensor, const char* name) {
  if (!tensor.defined()) return;
  ONPA_CHECK(tensor.dtype() == DType::kI32 && tensor.device() == x.device() && tensor.numel() >= 1,
             "patch_tokens: ", name, " is ", name_of(tensor.dtype()), " of shape ", tensor.shape(),
             ", want i32 beside x");
}

void check_grid(const Tensor& x, const PatchParams& p, const PatchGrid& grid) {
  ONPA_CHECK(grid.stride_f >= 1 && grid.stride_t >= 1 && grid.grid_f >= 1 && grid.grid_t >= 1,
             "patch_tokens: strides ", grid.stride_f, " x ", grid.stride_t, " and grid ",
             grid.grid_f, " x ", grid.grid_t, ", want all >= 1");
  const std::int64_t mels = (grid.grid_f - 1) * grid.stride_f + p.weight.size(2);
  const std::int64_t frames = (grid.grid_t - 1) * grid.stride_t + p.weight.size(3);
  ONPA_CHECK(mels <= x.size(1) && frames <= x.size(2), "patch_tokens: x has shape ", x.shape(),
             ", a grid of ", grid.grid_f, " x ", grid.grid_t, " patches wants at least (B, ", mels,
             ", ", frames, ")");
  check_device_tensor(x, grid.keep_device, "keep_device");
  check_device_tensor(x, grid.time_offset_device, "time_offset_device");
  std::int64_t previous = -1;
  for (const std::int32_t cell : grid.keep) {
    ONPA_CHECK(cell > previous && cell < grid.grid_f * grid.grid_t, "patch_tokens: keep has ", cell,
               " after ", previous, ", want ascending cells below ", grid.grid_f * grid.grid_t);
    previous = cell;
  }
}

// The kept cells as a tensor, so that they live on the device beside the tokens.
Tensor kept_cells(const PatchGrid& grid, DeviceKind device) {
  if (grid.keep_device.defined()) return grid.keep_device;
  if (!grid.keep.empty()) {
    return Tensor::from<std::int32_t>({static_cast<std::int64_t>(grid.keep.size())}, grid.keep)
        .to(device);
  }
  const Tensor all = Tensor::empty({grid.grid_f * grid.grid_t}, DType::kI32, device);
  const OpScope scope("draw_patchout", [&] { return OpWork{0, bytes_of(all)}; });
  on_device(device, [&](auto dev) {
    kernels::draw_patchout(dev, {.keep = all.data<std::int32_t>(),
                                 .grid_f = grid.grid_f,
                                 .grid_t = grid.grid_t,
                                 .table_t = grid.grid_t});
  });
  return all;
}

// The grid is read without its list of cells, which `keep` holds.
template <class T>
kernels::PatchInput<T> patch_input(const Tensor& x, const PatchParams& p, const PatchGrid& grid,
                                   const Tensor& keep) {
  return {.x = x.data<T>(),
          .keep = keep.data<std::int32_t>(),
          .keep_stride = 0,
          .batch = x.size(0),
          .mels = x.size(1),
          .frames = x.size(2),
          .width = p.weight.size(0),
          .patch_f = p.weight.size(2),
          .patch_t = p.weight.size(3),
          .stride_f = grid.stride_f,
          .stride_t = grid.stride_t,
          .grid_f = grid.grid_f,
          .grid_t = grid.grid_t,
          .table_t = p.time_pos.size(3),
          .time_offset = grid.time_offset,
          .kept = keep.numel(),
          .time_offset_device = grid.time_offset_device.defined()
                                    ? grid.time_offset_device.data<std::int32_t>()
                                    : nullptr};
}

// Of one product of all kept patches with the weights, three additions to each element of their
// tokens, and `prefix` ones to each element of the class and distillation tokens.
double patch_flops(const PatchParams& p, const Tensor& tokens, int prefix) {
  const std::int64_t batch = tokens.size(0), kept = tokens.size(1) - 2, width = tokens.size(2);
  return product_flops(batch * kept, width, p.weight.numel() / width) +
         3 * static_cast<double>(batch * kept * width) +
         2 * prefix * static_cast<double>(batch * width);
}

// The values that the kept patches hold, of which overlapping ones are read once at best.
double patch_input_bytes(const Tensor& x, const PatchParams& p, const Tensor& keep) {
  const double size = static_cast<double>(size_of(x.dtype()));
  const double patches = static_cast<double>(x.size(0) * keep.numel()) *
                         static_cast<double>(p.weight.numel() / p.weight.size(0));
  return std::min(bytes_of(x), patches * size) + bytes_of(keep);
}

double parameter_bytes(const PatchParams& p) {
  return bytes_of(p.weight, p.bias, p.cls, p.dist, p.prefix_pos, p.freq_pos, p.time_pos);
}

void patch_tokens_backward(const Tensor& dy, const Tensor& x, const PatchParams& p,
                           const PatchGrid& grid, const Tensor& keep) {
  const GradTarget dweight = grad_target(p.weight), dbias = grad_target(p.bias),
                   dcls = grad_target(p.cls), ddist = grad_target(p.dist),
                   dprefix_pos = grad_target(p.prefix_pos), dfreq_pos = grad_target(p.freq_pos),
                   dtime_pos = grad_target(p.time_pos);
  const OpScope scope("patch_tokens_bwd", [&] {
    return OpWork{patch_flops(p, dy, 2),
                  patch_input_bytes(x, p, keep) +
                      bytes_of(dy, dweight, dbias, dcls, ddist, dprefix_pos, dfreq_pos, dtime_pos)};
  });
  with_workspace(
      x.device(), x.dtype(),
      [&]<class T>() {
        return kernels::PatchTokensBwd<T>{.in = patch_input<T>(x, p, grid, keep),
                                          .dy = dy.data<T>(),
                                          .dweight = dweight.data<T>(),
                                          .dbias = dbias.data<T>(),
                                          .dcls = dcls.data<T>(),
                                          .ddist = ddist.data<T>(),
                                          .dprefix_pos = dprefix_pos.data<T>(),
                                          .dfreq_pos = dfreq_pos.data<T>(),
                                          .dtime_pos = dtime_pos.data<T>(),
                                          .dweight_mode = dweight.mode,
                                          .dbias_mode = dbias.mode,
                                          .dcls_mode = dcls.mode,
                                          .ddist_mode = ddist.mode,
                                          .dprefix_pos_mode = dprefix_pos.mode,
                                          .dfreq_pos_mode = dfreq_pos.mode,
                                          .dtime_pos_mode = dtime_pos.mode};
      },
      [](auto dev, const auto& a) { return kernels::patch_tokens_bwd_workspace_bytes(dev, a); },
      [](auto dev, const auto& a) { kernels::patch_tokens_bwd(dev, a); });
}

}  // namespace

Tensor patch_tokens(const Tensor& x, const PatchParams& params, const PatchGrid& grid) {
  ONPA_CHECK(x.defined() && x.shape().rank() == 3, "patch_tokens: x has shape ", x.shape(),
             ", want (B, F, T)");
  check_params(x, params, grid);
  check_grid(x, params, grid);
  const PatchParams& p = params;
  const Tensor keep = kept_cells(grid, x.device());
  const std::int64_t width = p.weight.size(0);
  Tensor y = Tensor::empty({x.size(0), keep.numel() + 2, width}, x.dtype(), x.device());
  const OpScope scope("patch_tokens_fwd", [&] {
    return OpWork{patch_flops(p, y, 1),
                  patch_input_bytes(x, p, keep) + parameter_bytes(p) + bytes_of(y)};
  });
  with_workspace(
      x.device(), x.dtype(),
      [&]<class T>() {
        return kernels::PatchTokensFwd<T>{.in = patch_input<T>(x, p, grid, keep),
                                          .weight = p.weight.data<T>(),
                                          .bias = p.bias.data<T>(),
                                          .cls = p.cls.data<T>(),
                                          .dist = p.dist.data<T>(),
                                          .prefix_pos = p.prefix_pos.data<T>(),
                                          .freq_pos = p.freq_pos.data<T>(),
                                          .time_pos = p.time_pos.data<T>(),
                                          .y = y.data<T>()};
      },
      [](auto dev, const auto& a) { return kernels::patch_tokens_fwd_workspace_bytes(dev, a); },
      [](auto dev, const auto& a) { kernels::patch_tokens_fwd(dev, a); });
  PatchGrid cells = grid;
  cells.keep.clear();
  return record(y, {p.weight, p.bias, p.cls, p.dist, p.prefix_pos, p.freq_pos, p.time_pos},
                [x = x.detach(), p, cells, keep](const Tensor& dy) {
                  patch_tokens_backward(dy, x, p, cells, keep);
                });
}

}  // namespace onpa::ops
