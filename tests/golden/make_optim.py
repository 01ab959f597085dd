#!/usr/bin/env python3
"""Golden values for losses, optimizers, schedules, averages and the safetensors format.

Usage: make_optim.py FOLDER      (needs torch, numpy, safetensors)
Writes optim.safetensors (everything numeric) and types.safetensors (one tensor of each type).
"""

import pathlib
import sys

import numpy as np
import torch
from safetensors.torch import save_file
from torch.nn import functional as F
from torch.optim import lr_scheduler as sched
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

STEPS = 6
LR = 0.01


class Pair(torch.nn.Module):
    """Two parameters whose sizes are no multiple of a vector."""

    def __init__(self, generator):
        super().__init__()
        self.a = torch.nn.Parameter(torch.randn(3, 7, generator=generator))
        self.b = torch.nn.Parameter(torch.randn(11, generator=generator))


def flat(values):
    return torch.cat([v.detach().reshape(-1) for v in values]).clone()


def optimizers(out):
    cases = {
        "adamw": (lambda p: torch.optim.AdamW(p, lr=LR, weight_decay=0.1), 0.0),
        "adamw_clip": (lambda p: torch.optim.AdamW(p, lr=LR, weight_decay=1e-4), 1.0),
        "sgd_nesterov": (
            lambda p: torch.optim.SGD(p, lr=LR, momentum=0.9, nesterov=True, weight_decay=1e-2),
            0.0,
        ),
        "sgd_momentum_clip": (lambda p: torch.optim.SGD(p, lr=LR, momentum=0.8), 2.5),
        "sgd_plain": (lambda p: torch.optim.SGD(p, lr=LR, weight_decay=1e-2), 0.0),
    }
    for name, (make, clip) in cases.items():
        g = torch.Generator().manual_seed(len(name))
        net = Pair(g)
        opt = make(net.parameters())
        out[f"{name}.start"] = flat(net.parameters())
        grads, params, norms = [], [], []
        for step in range(STEPS):
            # Sizes from 0.01 to about 10, so that clipping acts at some steps only.
            for p in net.parameters():
                p.grad = torch.randn(p.shape, generator=g) * 10 ** (step - 3.0 if step < 4 else -1.0)
            grads.append(flat(p.grad for p in net.parameters()))
            limit = clip if clip > 0 else float("inf")
            norms.append(torch.nn.utils.clip_grad_norm_(net.parameters(), limit))
            opt.step()
            params.append(flat(net.parameters()))
        out[f"{name}.grads"] = torch.stack(grads)
        out[f"{name}.params"] = torch.stack(params)
        out[f"{name}.norms"] = torch.stack(norms).double()


def averages(out):
    g = torch.Generator().manual_seed(5)
    net = Pair(g)
    swa = AveragedModel(net)
    ema = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    params, swas, emas = [], [], []
    for _ in range(STEPS):
        with torch.no_grad():
            for p in net.parameters():
                p.add_(torch.randn(p.shape, generator=g))
        swa.update_parameters(net)
        ema.update_parameters(net)
        params.append(flat(net.parameters()))
        swas.append(flat(swa.parameters()))
        emas.append(flat(ema.parameters()))
    out["average.params"] = torch.stack(params)
    out["average.swa"] = torch.stack(swas)
    out["average.ema"] = torch.stack(emas)


def schedules(out):
    warmup, total, floor = 4, 16, 0.05

    def run(make_decay):
        opt = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        # LinearLR does not start at exactly 0.
        parts = [sched.LinearLR(opt, 1e-12, 1.0, warmup), make_decay(opt)]
        s = sched.SequentialLR(opt, parts, [warmup])
        rates = []
        for _ in range(total + 1):
            rates.append(opt.param_groups[0]["lr"])
            opt.step()
            s.step()
        return torch.tensor(rates, dtype=torch.float64)

    out["schedule.cosine"] = run(lambda o: sched.CosineAnnealingLR(o, total - warmup, floor))
    out["schedule.linear"] = run(lambda o: sched.LinearLR(o, 1.0, floor, total - warmup))


def losses(out):
    g = torch.Generator().manual_seed(9)
    x = torch.randn(5, 7, generator=g, dtype=torch.float64) * 3
    target = torch.randn(5, 7, generator=g, dtype=torch.float64)
    x[0, 0], target[0, 0] = 800.0, 0.25  # exp would overflow
    x[1, 1], target[1, 1] = -900.0, 0.5
    unit = torch.sigmoid(target)
    classes = torch.softmax(target, 1)
    out["loss.x"], out["loss.target"] = x.clone(), target
    out["loss.unit"], out["loss.classes"] = unit, classes
    cases = {
        "mse": lambda v: F.mse_loss(v, target),
        "l1": lambda v: F.l1_loss(v, target),
        "huber": lambda v: F.huber_loss(v, target, delta=0.75),
        "bce": lambda v: F.binary_cross_entropy_with_logits(v, unit),
        "ce": lambda v: F.cross_entropy(v, classes),
    }
    for name, f in cases.items():
        v = x.clone().requires_grad_()
        y = f(v)
        y.backward()
        out[f"loss.{name}"] = y.detach().reshape(1)
        out[f"loss.{name}.grad"] = v.grad


def types():
    values = torch.tensor([0.0, -0.0, 1.0, -2.5, 6e-8, 65504.0, float("inf"), float("-inf")])
    return {
        "double": values.double().reshape(2, 4) + 0.1,
        "long": torch.tensor([-(2**63), 2**63 - 1]),
        "single": values.reshape(2, 2, 2),
        "scalar": torch.tensor(3.5),
        "empty": torch.zeros(0, 4),
        "int": torch.tensor([-(2**31), 2**31 - 1], dtype=torch.int32),
        "half": values.half(),
        "brain": values.bfloat16(),
        "naïve \"quoted\"": torch.tensor([1.0]),
    }


def main():
    folder = pathlib.Path(sys.argv[1])
    out = {}
    optimizers(out)
    averages(out)
    schedules(out)
    losses(out)
    about = {"made_by": f"make_optim.py, torch {torch.__version__}"}
    save_file(out, folder / "optim.safetensors", about)
    save_file(types(), folder / "types.safetensors", {"note": "written by Python"})
    np.save(folder / "npy_f32.npy", np.arange(6, dtype=np.float32).reshape(2, 3) / 4)


if __name__ == "__main__":
    main()
