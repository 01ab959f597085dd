"""PyTorch's Python worker of the comparison with onpa (bench/vs_torch.py); see protocol.h.

Runs in the virtual environment with PyTorch. Row kinds and their meaning are those of
bench/vs_torch/onpa_*.cpp; variants are the ways that PyTorch has to do them.
"""
import json
import os
import sys
import time
import traceback

import torch

import torch_kernels
import torch_media
import torch_models

SENT_VALUES = 4096
KINDS = torch_kernels.KINDS | torch_models.KINDS | torch_media.KINDS


def summary(values: torch.Tensor) -> dict:
    flat = values.detach().contiguous().reshape(-1)
    double = flat.double()
    return {"count": flat.numel(), "sum": double.sum().item(), "squares": (double * double).sum().item(),
            "values": flat[:: flat.numel() // SENT_VALUES + 1].tolist()}


def read_safetensors(path: str) -> dict[str, torch.Tensor]:
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        data = bytearray(file.read())
    out = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        values = torch.frombuffer(data, dtype=torch.float32, offset=begin, count=(end - begin) // 4)
        out[name] = values.reshape(entry["shape"]).clone()
    return out


class Worker:
    def __init__(self):
        self.check = self.run = None

    def drop(self) -> dict:
        self.check = self.run = None
        torch._dynamo.reset()  # compiled code of earlier rows
        return {"ok": True}

    def prepare(self, job: dict) -> dict:
        self.drop()
        torch.set_num_threads(job["threads"])
        # Compiled code has the number of threads built in.
        torch._inductor.config.cpp.threads = job["threads"]
        inputs = read_safetensors(os.path.join(job["folder"], "inputs.safetensors"))
        self.check, self.run = KINDS[job["kind"]](job, inputs)
        return {"ok": True}

    def handle(self, request: dict) -> dict:
        what = request["do"]
        if what == "prepare":
            return self.prepare(request["job"])
        if what == "check":
            return {"outputs": {name: summary(values) for name, values in self.check().items()}}
        if what == "run":
            start = time.perf_counter()
            for _ in range(request["calls"]):
                self.run()
            return {"seconds": time.perf_counter() - start}
        if what == "drop":
            return self.drop()
        if what == "versions":
            return torch_media.versions()
        raise ValueError(f"unknown command '{what}'")


def main() -> int:
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not look like a reply
    torch.set_flush_denormal(True)
    worker = Worker()
    for line in sys.stdin:
        try:
            reply = worker.handle(json.loads(line))
        except Exception as error:
            traceback.print_exc()
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), file=replies, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
