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


def main() -> int:
    rows: list = []
    for part in (attention_rows, elementwise_rows, optimizer_rows, gemm_rows):
        try:
            part(rows)
        except Exception as error:  # torch.compile needs a C compiler and Triton, which may be missing
            print(f"{part.__name__}: {error}", file=sys.stderr)
    print(json.dumps({"torch": torch.__version__, "rows": rows}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
