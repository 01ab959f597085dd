#!/usr/bin/env python3
"""Times in PyTorch, on the GPU and in bf16, what bench_cuda_* time; JSON to stdout.

With `--device cpu --small` every part runs in seconds on any machine: a test of this file, no measurement.
"""
import argparse
import json
import statistics
import sys
import time

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

HEADS, DIM = 12, 64
WIDTH, HIDDEN = HEADS * DIM, 3072
# By the names that rows get; "default" lets PyTorch choose.
BACKENDS = {"default": None, "flash": SDPBackend.FLASH_ATTENTION, "cuDNN": SDPBackend.CUDNN_ATTENTION}
RATE_HZ, WINDOW, HOP, MELS, FFT = 32000, 800, 320, 128, 1024


class Setting:
    """Where and at which sizes everything runs."""

    device = "cuda"
    clips, tokens, depth = 8, 2155, 12
    warm_up, calls, repetitions = 3, 10, 7
    attention_tokens = (899, 2155, 3584)
    batches = (8, 48)
    parameters = 86_000_000
    mel_clips, seconds = (8, 64), 30
    compile = True


def shrink() -> None:
    torch.set_num_threads(1)  # more only wait for each other at such sizes
    Setting.compile = False
    Setting.clips, Setting.tokens, Setting.depth = 2, 35, 1
    Setting.warm_up, Setting.calls, Setting.repetitions = 0, 1, 1
    Setting.attention_tokens = (35,)
    Setting.batches = (2,)
    Setting.parameters = 1000
    Setting.mel_clips, Setting.seconds = (2,), 1


def measured_ms(work) -> float:
    """Of several calls of `work`, one after the other."""
    if Setting.device != "cuda":
        begin = time.perf_counter()
        for _ in range(Setting.calls):
            work()
        return (time.perf_counter() - begin) * 1e3
    start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    for _ in range(Setting.calls):
        work()
    stop.record()
    stop.synchronize()
    return start.elapsed_time(stop)


def time_ms(work) -> float:
    for _ in range(Setting.warm_up):
        work()
    return statistics.median(measured_ms(work) / Setting.calls for _ in range(Setting.repetitions))


def add(rows: list, name: str, work) -> None:
    rows.append({"name": name, "median_ms": time_ms(work)})


def left_out(name: str, reason: object) -> None:
    print(f"{name}: left out: {str(reason).strip().splitlines()[0]}", file=sys.stderr)


def compiled(function):
    return torch.compile(function) if Setting.compile else function


def tensor(*shape: int, grad: bool = False) -> torch.Tensor:
    return torch.randn(*shape, device=Setting.device, dtype=torch.bfloat16, requires_grad=grad)


def attention_with(backend, q, k, v):
    if backend is None:
        return F.scaled_dot_product_attention(q, k, v)
    with sdpa_kernel(backend):
        return F.scaled_dot_product_attention(q, k, v)


def largest_error(got, want) -> float:
    """Of several tensors, each against the largest value of its own."""
    return max(float((g.detach() - w.detach()).abs().max() / w.detach().abs().max()) for g, w in zip(got, want))


def check_attention(backend, tokens: int) -> None:
    """Output and gradients of one clip against PyTorch's plain attention in float, on the same bf16 inputs.
    The bound: results and probabilities are rounded to bf16 (2^-9 of their size) and gradients pass through
    several such roundings; a mask, scale or layout gone wrong is off by tens of percent."""
    q, k, v = (tensor(1, HEADS, tokens, DIM, grad=True) for _ in range(3))
    dy = tensor(1, HEADS, tokens, DIM)
    with sdpa_kernel(SDPBackend.MATH):
        exact = [t.detach().float().requires_grad_() for t in (q, k, v)]
        y = F.scaled_dot_product_attention(*exact)
        want = (y, *torch.autograd.grad(y, exact, dy.float()))
    y = attention_with(backend, q, k, v)
    error = largest_error((y, *torch.autograd.grad(y, (q, k, v), dy)), want)
    if not error < 2e-2:
        raise ValueError(f"is off by {error:.2g} of the largest value")


def attention_rows(rows: list) -> None:
    for tokens in Setting.attention_tokens:
        q, k, v = (tensor(Setting.clips, HEADS, tokens, DIM, grad=True) for _ in range(3))
        dy = tensor(Setting.clips, HEADS, tokens, DIM)
        for name, backend in BACKENDS.items():
            def forward():
                return attention_with(backend, q, k, v)

            def both():
                torch.autograd.grad(forward(), (q, k, v), dy)

            try:
                check_attention(backend, tokens)
                add(rows, f"attention_fwd tokens:{tokens} (SDPA, {name})", forward)
                add(rows, f"attention_fwd_bwd tokens:{tokens} (SDPA, {name})", both)
            except (RuntimeError, ValueError) as error:
                left_out(f"attention tokens:{tokens} ({name})", error)


def elementwise_rows(rows: list) -> None:
    shape = (Setting.clips * Setting.tokens, WIDTH)
    x, residual, dy = tensor(*shape, grad=True), tensor(*shape), tensor(*shape)
    weight, bias = tensor(WIDTH, grad=True), tensor(WIDTH, grad=True)
    add_norm = compiled(lambda x, residual, weight, bias: F.layer_norm(x + residual, (WIDTH,), weight, bias, 1e-6))
    hidden, dhidden = tensor(shape[0], HIDDEN, grad=True), tensor(shape[0], HIDDEN)
    gelu = compiled(lambda t: F.gelu(t))
    add(rows, "add_layer_norm_fwd (compiled)", lambda: add_norm(x, residual, weight, bias))
    add(rows, "add_layer_norm fwd + bwd (compiled)",
        lambda: torch.autograd.grad(add_norm(x, residual, weight, bias), (x, weight, bias), dy))
    add(rows, "activation_fwd (compiled)", lambda: gelu(hidden))
    add(rows, "activation fwd + bwd (compiled)", lambda: torch.autograd.grad(gelu(hidden), hidden, dhidden))


def mel_bank() -> torch.Tensor:
    """(MELS, FFT / 2 + 1): triangles from 0 to 15,000 Hz, linear in mel = 1127 ln(1 + f / 700)."""
    def mel_of(hz: torch.Tensor) -> torch.Tensor:
        return 1127 * torch.log1p(hz / 700)

    step = mel_of(torch.tensor(15000.0)) / (MELS + 1)
    centre = step * torch.arange(1, MELS + 1)
    mel = mel_of(torch.arange(FFT // 2 + 1) * RATE_HZ / FFT)
    return (1 - (mel - centre[:, None]).abs() / step).clamp(min=0)


def finish_mel(power: torch.Tensor) -> torch.Tensor:
    return (torch.log(power + 1e-5) + 4.5) / 5


def mel_rows(rows: list) -> None:
    """The front end in fp32 as PaSST's public code has it (torch.stft) and with torchaudio's transform."""
    bank, window = mel_bank().to(Setting.device), torch.hann_window(WINDOW, periodic=False, device=Setting.device)

    def with_stft(wave):
        emphasised = wave[:, 1:] - 0.97 * wave[:, :-1]
        spectra = torch.stft(emphasised, FFT, HOP, WINDOW, window, center=True, return_complex=True)
        return finish_mel(bank @ spectra.abs().square())

    ways = {"mel_fwd (torch.stft)": with_stft}
    try:
        import torchaudio
    except Exception as error:  # it refuses a PyTorch of another CUDA version with RuntimeError
        left_out("mel_fwd (torchaudio)", error)
    else:
        spectrogram = torchaudio.transforms.Spectrogram(
            FFT, WINDOW, HOP, window_fn=lambda n: torch.hann_window(n, periodic=False)).to(Setting.device)
        ways["mel_fwd (torchaudio)"] = lambda wave: finish_mel(
            bank @ spectrogram(torchaudio.functional.preemphasis(wave, 0.97)[:, 1:]))
    for clips in Setting.mel_clips:
        wave = 0.2 * torch.randn(clips, Setting.seconds * RATE_HZ, device=Setting.device)
        want = with_stft(wave)
        for name, work in ways.items():
            if (error := largest_error([work(wave)], [want])) > 1e-3:
                left_out(name, f"is off by {error:.2g} of the largest value")
                continue
            add(rows, f"{name} clips:{clips}", lambda: work(wave))


def optimizer_rows(rows: list) -> None:
    # PyTorch's fused AdamW updates float weights from float gradients: more bytes than a bf16 gradient.
    parameter = torch.randn(Setting.parameters, device=Setting.device, requires_grad=True)
    parameter.grad = torch.randn_like(parameter)
    add(rows, "adamw (fused, fp32)", torch.optim.AdamW([parameter], fused=True).step)


def gemm_rows(rows: list) -> None:
    x = tensor(Setting.clips * Setting.tokens, WIDTH)
    for name, outputs in (("qkv", 3 * WIDTH), ("fc1", HIDDEN)):
        weight, bias = tensor(outputs, WIDTH), tensor(outputs)
        add(rows, f"gemm/{name}", lambda: F.linear(x, weight, bias))


class Block(torch.nn.Module):
    def __init__(self, backend):
        super().__init__()
        self.backend = backend
        self.norm1, self.norm2 = torch.nn.LayerNorm(WIDTH, 1e-6), torch.nn.LayerNorm(WIDTH, 1e-6)
        self.qkv, self.proj = torch.nn.Linear(WIDTH, 3 * WIDTH), torch.nn.Linear(WIDTH, WIDTH)
        self.fc1, self.fc2 = torch.nn.Linear(WIDTH, HIDDEN), torch.nn.Linear(HIDDEN, WIDTH)

    def forward(self, x):
        b, n, _ = x.shape
        q, k, v = self.qkv(self.norm1(x)).reshape(b, n, 3, HEADS, DIM).permute(2, 0, 3, 1, 4)
        y = attention_with(self.backend, q, k, v).transpose(1, 2).reshape(b, n, WIDTH)
        x = x + self.proj(y)
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class Transformer(torch.nn.Module):
    """passt-s from kept patches on: a projection of 256 values, its blocks, a head on the first two tokens."""

    def __init__(self, backend):
        super().__init__()
        self.embed = torch.nn.Linear(256, WIDTH)
        self.prefix = torch.nn.Parameter(torch.zeros(1, 2, WIDTH))
        self.blocks = torch.nn.ModuleList(Block(backend) for _ in range(Setting.depth))
        self.norm, self.head = torch.nn.LayerNorm(WIDTH, 1e-6), torch.nn.Linear(WIDTH, 1)

    def forward(self, patches):
        x = torch.cat([self.prefix.expand(len(patches), -1, -1), self.embed(patches)], 1)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x[:, :2]).mean(1))


def step_of(model: torch.nn.Module, x: torch.Tensor, batch: int):
    """One training step: compiled, autocast to bf16, clipped, fused AdamW on float weights."""
    predict = compiled(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    target = torch.randn(batch, 1, device=Setting.device)

    def step():
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(Setting.device, torch.bfloat16):
            loss = F.mse_loss(predict(x).float(), target)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step


def dense_step_rows(rows: list) -> None:
    for width in (64, 256):
        dense = torch.nn.Sequential(torch.nn.Linear(10, width), torch.nn.ReLU(), torch.nn.Linear(width, width),
                                    torch.nn.ReLU(), torch.nn.Linear(width, 1)).to(Setting.device)
        add(rows, f"train_dense width:{width} (compiled)",
            step_of(dense, torch.randn(512, 10, device=Setting.device), 512))


def passt_step_rows(rows: list) -> None:
    for batch in Setting.batches:
        for name, backend in BACKENDS.items():
            full_name = f"train_passt batch:{batch} (compiled, SDPA, {name}, without the mel and patch stages)"
            torch.compiler.reset()  # nothing that was compiled for another backend may run
            try:
                x = torch.randn(batch, Setting.tokens - 2, 256, device=Setting.device)
                add(rows, full_name, step_of(Transformer(backend).to(Setting.device), x, batch))
            except RuntimeError as error:  # no such backend here, or not enough memory
                left_out(full_name, error)


PARTS = (attention_rows, elementwise_rows, mel_rows, optimizer_rows, gemm_rows, dense_step_rows, passt_step_rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--small", action="store_true", help="tiny sizes, nothing compiled; fails if any part does")
    args = parser.parse_args()
    Setting.device = args.device
    if args.small:
        shrink()
    rows: list = []
    failed = False
    for part in PARTS:
        try:
            part(rows)
        except Exception as error:  # torch.compile needs a C compiler and Triton, which may be missing
            failed = True
            print(f"{part.__name__}: {error}", file=sys.stderr)
    print(json.dumps({"torch": torch.__version__, "rows": rows}))
    return 1 if failed and args.small else 0


if __name__ == "__main__":
    sys.exit(main())
