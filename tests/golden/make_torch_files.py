#!/usr/bin/env python3
"""Small files of torch.save for the tests of the reader, from several versions of PyTorch.

    make_torch_files.py OUT            with the newest PyTorch: all files
    make_torch_files.py OUT --kinds    with an older one: torch_kinds_<version>.pt alone

The values are formulas of the index, so that a test can state them; see kinds().
"""
import argparse
import collections
import os
import sys
import types
import zipfile

import torch


def ramp(count, dtype=torch.float32):
    return torch.arange(count, dtype=torch.float32).mul(0.5).sub(1).to(dtype)


def kinds():
    whole = ramp(12).reshape(3, 4)
    d = collections.OrderedDict()
    d["whole"] = whole
    d["turned"] = whole.t()  # strides (1, 4) of the same storage
    d["rows"] = whole[1:]  # offset 4
    d["column"] = whole[:, 1]
    d["parameter"] = torch.nn.Parameter(ramp(6).reshape(2, 3))
    d["half"] = ramp(4, torch.float16)
    d["brain"] = ramp(4, torch.bfloat16)
    d["double"] = ramp(3, torch.float64)
    d["scalar"] = torch.tensor(2.5)
    d["empty"] = torch.zeros(0, 4)
    d["num_batches_tracked"] = torch.tensor(7)
    return d


def weights(scale):
    d = collections.OrderedDict()
    d["head.weight"] = ramp(4).reshape(2, 2) * scale
    d["head.bias"] = ramp(2) * scale
    return d


def prefixed(prefix, scale):
    return {prefix + key: value for key, value in weights(scale).items()}


def stand_in(module, name, base):
    """A class that pickles as module.name, of a package that is not installed."""
    parts = module.split(".")
    for i in range(len(parts)):
        sys.modules.setdefault(".".join(parts[: i + 1]), types.ModuleType(parts[i]))
    made = type(name, (base,), {"__module__": module})
    setattr(sys.modules[module], name, made)
    return made


def lightning():
    settings = stand_in("pytorch_lightning.utilities.parsing", "AttributeDict", dict)
    callback = stand_in("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint", object)
    layer = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=1e-5)
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    state = collections.OrderedDict()
    state.update(prefixed("net._orig_mod.", 1))
    state.update(prefixed("net_swa.", 3))
    state["n_averaged"] = torch.tensor(5)
    return {
        "epoch": 3,
        "global_step": 1200,
        "pytorch-lightning_version": "1.9.5",
        "state_dict": state,
        "optimizer_states": [optimizer.state_dict()],
        "lr_schedulers": [{"base_lrs": [1e-5], "last_epoch": 3}],
        "callbacks": {callback: {"best_model_score": torch.tensor(0.5), "best_model_path": "x"}},
        "hyper_parameters": settings(lr=1e-5, classes=527, seen={1, 2}),
        "loops": {"big": 10**30, "nothing": None},
    }


def turn_bytes(source, target):
    """The same file as a big-endian machine would have written it; all storages are float32."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for entry in old.infolist():
            data = old.read(entry)
            if entry.filename.endswith("/byteorder"):
                data = b"big"
            elif "/data/" in entry.filename:
                data = b"".join(data[i : i + 4][::-1] for i in range(0, len(data), 4))
            new.writestr(entry.filename, data)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out")
    parser.add_argument("--kinds", action="store_true")
    args = parser.parse_args()

    def path(name):
        return os.path.join(args.out, "torch_" + name)

    version = "_".join(torch.__version__.split("+")[0].split(".")[:2])
    torch.save(kinds(), path("kinds_%s.pt" % version))
    if args.kinds:
        return
    torch.manual_seed(1)
    torch.save(kinds(), path("kinds_%s_p5.pt" % version), pickle_protocol=5)
    torch.save(kinds(), path("kinds_%s_old.pt" % version), _use_new_zipfile_serialization=False)
    optimizer = torch.optim.SGD(torch.nn.Linear(2, 2).parameters(), lr=1)
    deit = {"model": weights(1), "optimizer": optimizer.state_dict(), "epoch": 3,
            "args": argparse.Namespace(lr=1e-3, input_size=384, drop=None)}
    torch.save(deit, path("deit.pt"))
    torch.save(lightning(), path("lightning.ckpt"))
    torch.save(prefixed("module.", 1), path("parallel.pt"))
    torch.save(optimizer.state_dict(), path("optimizer.pt"))
    torch.save(weights(1), path("little.pt"))
    turn_bytes(path("little.pt"), path("big.pt"))
    os.remove(path("little.pt"))
    torch.jit.script(torch.nn.Linear(2, 2)).save(path("script.pt"))


main()
