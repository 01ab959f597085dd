#!/usr/bin/env python3
"""Times in PyTorch, on the GPU and in bf16, what bench_cuda_* time; JSON to stdout."""
import json
import statistics
import sys

import torch
import torch.nn.functional as F

CLIPS, TOKENS, HEADS, DIM = 8, 2155, 12, 64
WIDTH, HIDDEN = HEADS * DIM, 3072
CALLS, REPETITIONS = 10, 7


def time_ms(work) -> float:
    for _ in range(3):
        work()
    times = []
    for _ in range(REPETITIONS):
        start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        for _ in range(CALLS):
            work()
        stop.record()
        stop.synchronize()
        times.append(start.elapsed_time(stop) / CALLS)
    return statistics.median(times)


def tensor(*shape: int, grad: bool = False) -> torch.Tensor:
    return torch.randn(*shape, device="cuda", dtype=torch.bfloat16, requires_grad=grad)


def attention_rows(rows: list) -> None:
    for tokens in (899, 2155, 3584):
        q, k, v = (tensor(CLIPS, HEADS, tokens, DIM, grad=True) for _ in range(3))
        dy = tensor(CLIPS, HEADS, tokens, DIM)

        def forward():
            return F.scaled_dot_product_attention(q, k, v)

        def both():
            torch.autograd.grad(forward(), (q, k, v), dy)

        rows.append({"name": f"attention_fwd tokens:{tokens} (SDPA)", "median_ms": time_ms(forward)})
        rows.append({"name": f"attention_fwd_bwd tokens:{tokens} (SDPA)", "median_ms": time_ms(both)})


def elementwise_rows(rows: list) -> None:
    x, residual, dy = tensor(CLIPS * TOKENS, WIDTH, grad=True), tensor(CLIPS * TOKENS, WIDTH), tensor(CLIPS * TOKENS, WIDTH)
    weight, bias = tensor(WIDTH, grad=True), tensor(WIDTH, grad=True)

    def add_norm(x, residual, weight, bias):
        return F.layer_norm(x + residual, (WIDTH,), weight, bias, 1e-6)

    compiled = torch.compile(add_norm)
    hidden, dhidden = tensor(CLIPS * TOKENS, HIDDEN, grad=True), tensor(CLIPS * TOKENS, HIDDEN)
    gelu = torch.compile(lambda t: F.gelu(t))
    rows += [
        {"name": "add_layer_norm_fwd (compiled)", "median_ms": time_ms(lambda: compiled(x, residual, weight, bias))},
        {"name": "add_layer_norm fwd + bwd (compiled)", "median_ms": time_ms(
            lambda: torch.autograd.grad(compiled(x, residual, weight, bias), (x, weight, bias), dy))},
        {"name": "activation_fwd (compiled)", "median_ms": time_ms(lambda: gelu(hidden))},
        {"name": "activation fwd + bwd (compiled)", "median_ms": time_ms(
            lambda: torch.autograd.grad(gelu(hidden), hidden, dhidden))},
    ]


def optimizer_rows(rows: list) -> None:
    # PyTorch's fused AdamW updates float weights from float gradients: more bytes than a bf16 gradient.
    parameter = torch.randn(86_000_000, device="cuda", requires_grad=True)
    parameter.grad = torch.randn_like(parameter)
    rows.append({"name": "adamw (fused, fp32)", "median_ms": time_ms(torch.optim.AdamW([parameter], fused=True).step)})


def gemm_rows(rows: list) -> None:
    x = tensor(CLIPS * TOKENS, WIDTH)
    for name, outputs in (("qkv", 3 * WIDTH), ("fc1", HIDDEN)):
        weight, bias = tensor(outputs, WIDTH), tensor(outputs)
        rows.append({"name": f"gemm/{name}", "median_ms": time_ms(lambda: F.linear(x, weight, bias))})


class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = torch.nn.LayerNorm(WIDTH, 1e-6), torch.nn.LayerNorm(WIDTH, 1e-6)
        self.qkv, self.proj = torch.nn.Linear(WIDTH, 3 * WIDTH), torch.nn.Linear(WIDTH, WIDTH)
        self.fc1, self.fc2 = torch.nn.Linear(WIDTH, HIDDEN), torch.nn.Linear(HIDDEN, WIDTH)

    def forward(self, x):
        b, n, _ = x.shape
        q, k, v = self.qkv(self.norm1(x)).reshape(b, n, 3, HEADS, DIM).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, WIDTH)
        x = x + self.proj(y)
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class Transformer(torch.nn.Module):
    """passt-s from kept patches on: a projection of 256 values, 12 blocks, a head on the first two tokens."""

    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Linear(256, WIDTH)
        self.prefix = torch.nn.Parameter(torch.zeros(1, 2, WIDTH))
        self.blocks = torch.nn.ModuleList(Block() for _ in range(12))
        self.norm, self.head = torch.nn.LayerNorm(WIDTH, 1e-6), torch.nn.Linear(WIDTH, 1)

    def forward(self, patches):
        x = torch.cat([self.prefix.expand(len(patches), -1, -1), self.embed(patches)], 1)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x[:, :2]).mean(1))


def step_of(model: torch.nn.Module, x: torch.Tensor, batch: int):
    """One training step: compiled, autocast to bf16, clipped, fused AdamW on float weights."""
    compiled = torch.compile(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    target = torch.randn(batch, 1, device="cuda")

    def step():
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cuda", torch.bfloat16):
            loss = F.mse_loss(compiled(x).float(), target)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step


def step_rows(rows: list) -> None:
    for width in (64, 256):
        dense = torch.nn.Sequential(torch.nn.Linear(10, width), torch.nn.ReLU(), torch.nn.Linear(width, width),
                                    torch.nn.ReLU(), torch.nn.Linear(width, 1)).cuda()
        rows.append({"name": f"train_dense width:{width} (compiled)",
                     "median_ms": time_ms(step_of(dense, torch.randn(512, 10, device="cuda"), 512))})
    for batch in (8, 48):
        step = step_of(Transformer().cuda(), torch.randn(batch, TOKENS - 2, 256, device="cuda"), batch)
        rows.append({"name": f"train_passt batch:{batch} (compiled, SDPA, without the mel and patch stages)",
                     "median_ms": time_ms(step)})


def main() -> int:
    rows: list = []
    for part in (attention_rows, elementwise_rows, optimizer_rows, gemm_rows, step_rows):
        try:
            part(rows)
        except Exception as error:  # torch.compile needs a C compiler and Triton, which may be missing
            print(f"{part.__name__}: {error}", file=sys.stderr)
    print(json.dumps({"torch": torch.__version__, "rows": rows}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
