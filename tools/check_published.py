#!/usr/bin/env python3
"""Compare onpa with the public PaSST package on models of every published variant.

Builds each variant with the package's own constructors, with random weights, saves it as people
find such files (plain, nested, with the prefixes of training frameworks, in half precision), and
compares what `onpa predict` and `onpa embed` say of it with what the package computes: features and
logits of one pass, scene embeddings of a clip longer than a window, timestamp embeddings. Prints a
Markdown table of the largest differences and fails if one exceeds 1e-4 (of the largest value, where
that is above 1).

Needs a Python with torch, torchaudio and hear21passt 0.0.26 (--package for an unpacked copy); about
400 MB of disk at a time.

usage: check_published.py --onpa build/onpa [--full] [--only NAME] [--out docs/published_parity.md]
"""

import argparse
import contextlib
import io
import subprocess
import sys
import tempfile
import time
import types
import wave as wave_file
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

LIMIT = 1e-4


@dataclass
class Variant:
    name: str  # of the file too: where the shapes leave the front end open it has to say it
    arch: str
    save: str
    stride: int = 10
    frames: int = 998
    hop: int = 320
    classes: int = 527
    window_ms: int = 10000
    scene_hop_ms: int = 2500
    full: bool = False  # whether its own windows are compared without --full, too
    options: list = field(default_factory=list)


VARIANTS = [
    Variant("passt-s-f128-p16-s10-ap.476-swa", "passt_s_swa_p16_128_ap476", "plain"),
    Variant("passt-s-kd-ap.486", "passt_s_kd_p16_128_ap486", "net."),
    Variant("passt-s-f128-p16-s12-ap.470", "passt_s_kd_p16_128_ap486", "net_swa.", stride=12),
    Variant("passt-s-f128-p16-s14-ap.469", "passt_s_kd_p16_128_ap486", "half", stride=14),
    Variant("passt-s-f128-p16-s16-ap.468", "passt_s_p16_s16_128_ap468", "bf16", stride=16, full=True),
    Variant("passt-l-kd-ap.47", "passt_l_kd_p16_128_ap47", "lightning"),
    Variant("passt-s-f128-stfthop160-p16-s10-ap.473-swa", "stfthop160", "plain", frames=2000, hop=160),
    Variant("passt-s-f128-stfthop100-p16-s10-ap.473-swa", "stfthop100", "shared", frames=3200, hop=100),
    Variant("passt-s-f128-20sec-p16-s10-ap.474-swa", "passt_20sec", "plain", frames=2000,
            window_ms=20000, scene_hop_ms=5000),
    Variant("passt-s-f128-30sec-p16-s10-ap.473-swa", "passt_30sec", "half", frames=3000,
            window_ms=30000, scene_hop_ms=10000),
    Variant("openmic-passt-s-f128-10sec-p16-s10-ap.85", "openmic", "net._orig_mod.", classes=20),
    Variant("fsd50k-passt-s-f128-p16-s10-ap.655", "fsd50k", "plain", classes=200),
    Variant("fsd50k-passt-s-n-f128-p16-s16-ap.642", "fsd50k-n", "plain", stride=16, classes=200),
    Variant("esc50-passt-s-n-f128-p16-s10-fold1", "passt_s_kd_p16_128_ap486", "model", classes=50),
    Variant("passt-b-f128-p16-s16-ap.459", "passt_b_f128_p16_s16_ap_459", "plain", stride=16),
    Variant("passt-u600-f128-p16-s16-ap.460", "passt_u600_f128_p16_s16_ap_460", "plain", stride=16),
]


def load_package(folder):
    import torch

    if folder:
        sys.path.insert(0, str(folder))
    # The package takes one download helper from timm, which nothing here calls.
    for module in ("timm", "timm.models", "timm.models._hub"):
        sys.modules.setdefault(module, types.ModuleType(module))
    if not hasattr(sys.modules["timm.models._hub"], "download_cached_file"):
        sys.modules["timm.models._hub"].download_cached_file = None
    # Only the mel bank of torchaudio is used: that it was built for another CUDA does not matter.
    cuda, torch.version.cuda = torch.version.cuda, None
    from hear21passt.models import passt, preprocess
    from hear21passt.wrapper import PasstBasicWrapper

    torch.version.cuda = cuda
    passt.first_RUN = False
    return passt, preprocess, PasstBasicWrapper


def build(passt, variant, seed):
    """The variant's network with weights that make all its parts matter."""
    import torch

    with contextlib.redirect_stdout(io.StringIO()):
        net = passt.get_model(arch=variant.arch, pretrained=False, n_classes=variant.classes,
                              fstride=variant.stride, tstride=variant.stride,
                              input_tdim=variant.frames)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in net.named_parameters():
            scale = 0.3 if name.endswith("_embed") or name.endswith("_token") else 0.02
            p.add_(scale * torch.randn(p.shape, generator=generator))
    return net.eval()


def save(net, how, path):
    """Saves the network's weights; returns them as they are in the file, in f32."""
    import torch
    from safetensors.torch import save_file

    state = net.state_dict()
    if how == "safetensors":
        save_file({k: v.contiguous() for k, v in state.items()}, path)
        return state
    if how in ("half", "bf16"):
        dtype = torch.float16 if how == "half" else torch.bfloat16
        state = {k: v.to(dtype) for k, v in state.items()}
    content = state
    if how == "shared":  # views of one storage, one of them transposed
        flat = torch.cat([v.flatten() for v in state.values()])
        at, content = 0, {}
        for k, v in state.items():
            content[k] = flat[at : at + v.numel()].view(v.shape)
            at += v.numel()
        name = "head.1.weight"
        content[name] = content[name].t().contiguous().t()
    elif how.endswith("."):
        content = {how + k: v for k, v in state.items()}
    elif how == "model":
        content = {"model": state}
    elif how == "lightning":
        weights = {"net." + k: v for k, v in state.items()}
        optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(3))])
        content = {"epoch": 3, "global_step": 7, "pytorch-lightning_version": "1.3.8",
                   "state_dict": weights, "optimizer_states": [optimizer.state_dict()],
                   "lr_schedulers": [], "callbacks": {}}
    torch.save(content, path)
    return {k: v.float() for k, v in state.items()}


def noise(seconds, seed):
    """Noise with a tone, as 16-bit samples at 32 kHz."""
    rng = np.random.default_rng(seed)
    n = int(seconds * 32000)
    t = np.arange(n) / 32000
    x = 0.1 * rng.standard_normal(n) * (1 + np.sin(2 * np.pi * 0.7 * t)) + 0.3 * np.sin(2 * np.pi * 440 * t)
    return np.clip(x * 32768, -32768, 32767).astype(np.int16)


def write_wav(path, samples):
    with wave_file.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(32000)
        file.writeframes(samples.tobytes())


def embed(onpa, model, wav, out, *options):
    command = [onpa, "embed", "--model", model, wav, "--out", out, "--mode", "all", *options]
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}: {done.stderr}")
    return np.load(out)


def difference(got, want):
    if got.shape != want.shape:
        return float("inf")
    return float(np.abs(got - want).max() / max(1.0, np.abs(want).max()))


def compare(variant, parts, arguments, folder):
    import torch

    passt, preprocess, wrapper = parts
    net = build(passt, variant, seed=len(variant.name))
    how = "safetensors" if arguments.safetensors else variant.save
    model = folder / (variant.name + (".safetensors" if arguments.safetensors else ".pt"))
    net.load_state_dict(save(net, how, model))
    with contextlib.redirect_stdout(io.StringIO()):
        mel = preprocess.AugmentMelSTFT(n_mels=128, sr=32000, win_length=800, hopsize=variant.hop,
                                        n_fft=1024, freqm=48, timem=192, htk=False, fmin=0.0,
                                        fmax=None, norm=1, fmin_aug_range=10, fmax_aug_range=2000)
        public = wrapper(mel=mel, net=net, mode="all", max_model_window=variant.window_ms,
                         scene_hop=variant.scene_hop_ms).eval()
    out, wav = folder / "out.npy", folder / "clip.wav"
    results = {}

    def check(column, seconds, want_of, *options):
        samples = noise(seconds, seed=3)
        write_wav(wav, samples)
        with torch.no_grad():
            want = want_of(torch.from_numpy(samples.astype(np.float32) / 32768)[None])[0].numpy()
        got = embed(arguments.onpa, model, wav, out, *variant.options, *options)
        results[column] = difference(got if column == "timestamps" else got[0], want)

    check("one pass", 3.2, public.get_scene_embeddings)
    check("timestamps", 0.9, lambda x: public.get_timestamp_embeddings(x)[0], "--timestamps")
    if arguments.full or variant.full:
        seconds = variant.window_ms / 1000
        check("whole window", seconds, public.get_scene_embeddings)
        check("windows", seconds + 0.3, public.get_scene_embeddings)
    model.unlink()
    return results


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--onpa", type=Path, required=True)
    parser.add_argument("--package", type=Path, help="folder that holds hear21passt")
    parser.add_argument("--only", help="variants whose name holds this")
    parser.add_argument("--full", action="store_true", help="windows of every variant (slow)")
    parser.add_argument("--safetensors", action="store_true", help="save all as plain safetensors")
    parser.add_argument("--out", type=Path, help="page to write the table to")
    parser.add_argument("--folder", type=Path, help="where to put the files for a while")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    parts = load_package(arguments.package)
    import torch

    version = subprocess.run([arguments.onpa, "--version"], capture_output=True, text=True).stdout
    columns = ["one pass", "whole window", "windows", "timestamps"]
    lines = ["| file | stride | table from | hop | classes | saved as | " + " | ".join(columns) + " |",
             "|---|---|---|---|---|---|" + "---|" * len(columns)]
    worst = 0.0
    for variant in VARIANTS:
        if arguments.only and arguments.only not in variant.name:
            continue
        start = time.time()
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            results = compare(variant, parts, arguments, Path(folder))
        worst = max([worst, *results.values()])
        cells = [f"{results[c]:.1e}" if c in results else "" for c in columns]
        lines.append(f"| {variant.name} | {variant.stride} | {variant.frames} frames | {variant.hop} | "
                     f"{variant.classes} | {'safetensors' if arguments.safetensors else variant.save} | " + " | ".join(cells) + " |")
        print(lines[-1], f"({time.time() - start:.0f} s)", flush=True)
    page = PAGE.format(version=version.strip(), torch=torch.__version__, table="\n".join(lines))
    if arguments.out:
        arguments.out.write_text(page)
    print("\n".join(lines))
    print(f"largest difference {worst:.2e}, limit {LIMIT:.0e}")
    return 0 if worst <= LIMIT else 1


PAGE = """# Parity with the public package

What `onpa embed --mode all` (logits and features) says of models of every published variant against
the public package hear21passt 0.0.26 on the same file of weights and the same wav: the largest
difference of any number, divided by the largest number where that is above 1. The weights are random,
as no published file is needed to compare arithmetic; each is saved as such files are found. One pass:
3.2 s of noise and a tone, at its own length. Whole window: as long as the model's window. Windows: 0.3 s
longer, the mean over reflected windows. Timestamps: 0.9 s, 19 embeddings. Empty: not compared in this
run (`--full` compares all).

Made by `tools/check_published.py` with {version}, PyTorch {torch}, on the CPU, f32.

{table}
"""


if __name__ == "__main__":
    sys.exit(main())
