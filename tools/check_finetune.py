#!/usr/bin/env python3
"""Takes fine-tuning steps of PaSST-S at full size in onpa and in PyTorch, and compares the losses
and every parameter's update.

Both start from the same random weights of the public package (hear21passt) with 527 classes, get
the same new head, freeze and decay alike, and leave the same patches out: two clips of 10 s,
patchout 40 columns and 4 rows. PyTorch computes in --dtype (float64: the difference is onpa's
rounding alone). The settings, and why eps is 1e-3, are those of tests/golden/make_finetune_step.py,
but for the decay of 0.9 a layer: at 0.6 the lowest of twelve blocks would move by less than a
thousand times the rounding of float32 weights near 1, and that is what one would compare.

usage: PYTHONPATH=path/to/passt_hear21 python tools/check_finetune.py [--test build/test_nn]
Needs torch and safetensors, and about 10 GB of memory with float64.
"""

import argparse
import contextlib
import io
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "golden"))

from make_finetune_step import finetune, is_frozen, swap_head  # noqa: E402

BOUND = 1e-4
FROZEN = ["patch_embed", "blocks.0", "blocks.5.mlp"]
LAYER_DECAY = 0.9
PATCHOUT = {"time": 40, "freq": 4, "unstructured": 0}


def package_model(classes):
    from hear21passt.models import passt

    passt.first_RUN = False
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        return passt.PaSST(
            img_size=(128, 998), patch_size=16, stride=10, embed_dim=768, depth=12, num_heads=12,
            num_classes=classes, distilled=True, s_patchout_t=40, s_patchout_f=4,
        )


def in_pytorch(weights, head, mel, target, dtype, say):
    model = package_model(target.shape[2])
    model.load_state_dict(swap_head(weights, head), strict=False)
    model = model.to(dtype)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    losses, kept = finetune(
        model, 12, [m[:, None].to(dtype) for m in mel], list(target.to(dtype)), PATCHOUT,
        (12, 99), FROZEN, LAYER_DECAY, say,
    )
    updates = {n: (p.detach() - before[n]).double() for n, p in model.named_parameters()}
    return losses, torch.stack(kept), updates


def in_onpa(test, folder, say):
    say("the same in onpa")
    environment = {**os.environ, "ONPA_FINETUNE_CASE": str(folder)}
    subprocess.run(
        [test, "--gtest_filter=FinetuneStep.OfAGivenModel"], env=environment, check=True,
        stdout=subprocess.DEVNULL,
    )
    result = load_file(folder / "updates.safetensors")
    return result.pop("losses").tolist(), result


def compare(losses, updates, own_losses, own_updates):
    """Prints the largest differences; returns whether all are within the bound."""
    loss = max(abs(a - b) / b for a, b in zip(own_losses, losses))
    rows = []
    for name, own in own_updates.items():
        want = updates[name].flatten()
        largest = want.abs().max().item()
        worst = (own.double() - want).abs().max().item()
        if is_frozen(name, FROZEN):
            assert largest == 0 and worst == 0, f"{name} is frozen and has moved"
            continue
        rows.append((worst / largest, worst, largest, name))
    rows.sort(reverse=True)
    print(f"losses {own_losses}: largest difference {loss:.1e} of the loss")
    print(f"{len(rows)} parameters, {len(own_updates) - len(rows)} frozen ones that did not move")
    print("largest differences of an update, relative to the parameter's largest update:")
    for relative, worst, largest, name in rows[:5]:
        print(f"  {relative:.1e}  ({worst:.1e} of {largest:.1e})  {name}")
    return loss <= BOUND and rows[0][0] <= BOUND


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--test", default=str(ROOT / "build" / "test_nn"))
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--outputs", type=int, default=1)
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float64")
    args = parser.parse_args()

    def say(text):
        print(f"check_finetune: {text}", file=sys.stderr, flush=True)

    torch.manual_seed(1)
    weights = package_model(527).state_dict()
    # As the package initialises them, biases are 0 and the layers barely matter.
    for name, w in weights.items():
        if w.ndim == 1:
            w += 0.1 * torch.randn_like(w)
    # Small, so that gradients are: their rounding in float32 is to lie well below eps.
    head = 0.005 * torch.randn(args.outputs, 768), 0.01 * torch.randn(args.outputs)
    mel = torch.randn(args.steps, args.batch, 128, 998)
    target = torch.randn(args.steps, args.batch, args.outputs)
    losses, kept, updates = in_pytorch(weights, head, mel, target, getattr(torch, args.dtype), say)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        case = {**weights, "new.head.1.weight": head[0], "new.head.1.bias": head[1]}
        case.update(mel=mel, target=target, keep=kept)
        settings = {"frozen": ",".join(FROZEN), "layer_decay": str(LAYER_DECAY)}
        save_file(case, folder / "case.safetensors", metadata=settings)
        own_losses, own_updates = in_onpa(args.test, folder, say)
    good = compare(losses, updates, own_losses, own_updates)
    print(f"{'within' if good else 'NOT within'} {BOUND:.0e} of PyTorch {torch.__version__}, {args.dtype}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
