"""Golden updates of fine-tuning steps from PyTorch and the public package (hear21passt, v0.0.26).

A model gets a head for another number of classes, some of its parameters are frozen, the others
learn by torch.optim.AdamW with a learning rate for each layer, and patches are left out as drawn
here. Weights and inputs come from an integer hash that tests/support/hash_fill.h repeats, so that
only losses, kept patches and updates are stored; all is computed in float64.

AdamW's first steps are nearly signs of gradients. A parameter whose gradient is nothing but
rounding (the keys' biases, which softmax cancels) would be compared sign by sign; so eps is 1e-3,
well above such gradients, and updates are those of STEPS steps together.

usage: PYTHONPATH=path/to/passt_hear21 python make_finetune_step.py [OUT_FOLDER]
Needs torch and safetensors. tools/check_finetune.py does the same at full size.
"""

import contextlib
import io
import re
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from make_passt import fill, hash_uniform

STEPS, LR, WEIGHT_DECAY, EPS, LAYER_DECAY = 3, 0.01, 0.05, 1e-3, 0.6


def rate(name, depth, decay):
    """Layer-wise decay as BEiT defines it: 0 for the embeddings, i + 1 for block i, then the rest."""
    if name.startswith(("norm", "head")):
        return 1.0
    block = re.match(r"blocks\.(\d+)\.", name)
    return decay ** (depth + 1 - (int(block[1]) + 1 if block else 0))


def is_frozen(name, prefixes):
    return any(name == p or name.startswith(p + ".") for p in prefixes)


def swap_head(weights, new_head):
    """What the public code does where the number of classes differs; the new head is given."""
    kept = {n: w for n, w in weights.items() if not n.startswith(("head.1.", "head_dist."))}
    return {**kept, "head.1.weight": new_head[0], "head.1.bias": new_head[1]}


class KnownPermutations:
    """Stands in for torch.randperm, and says which cells are kept."""

    def __init__(self, name):
        self.name, self.draws = name, []

    def __call__(self, n):
        values = hash_uniform(f"{self.name}.{len(self.draws)}", n)
        self.draws.append(torch.from_numpy(np.argsort(values, kind="stable")))
        return self.draws[-1]

    def kept(self, grid_f, grid_t, out):
        draws = iter(self.draws)
        columns, rows = torch.arange(grid_t), torch.arange(grid_f)
        if out["time"]:
            columns = next(draws)[: grid_t - out["time"]].sort().values
        if out["freq"]:
            rows = next(draws)[: grid_f - out["freq"]].sort().values
        cells = (rows[:, None] * grid_t + columns[None, :]).flatten()
        if out["unstructured"]:
            cells = cells[next(draws)[: len(cells) - out["unstructured"]].sort().values]
        return cells.to(torch.int32)


def finetune(model, depth, mel, targets, out, grid, frozen, decay=LAYER_DECAY, say=lambda text: None):
    """Trains in place. Returns the losses, and the kept cells of each step."""
    groups = []
    for name, p in model.named_parameters():
        p.requires_grad_(not is_frozen(name, frozen))
        if p.requires_grad:
            groups.append({"params": [p], "lr": LR * rate(name, depth, decay)})
    optimizer = torch.optim.AdamW(groups, eps=EPS, weight_decay=WEIGHT_DECAY)
    losses, kept = [], []
    model.train()
    randperm = torch.randperm
    for step, target in enumerate(targets):
        torch.randperm = draws = KnownPermutations(f"perm{step}")
        try:
            logits, _ = model(mel[step])
        finally:
            torch.randperm = randperm
        loss = torch.nn.functional.mse_loss(logits, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        kept.append(draws.kept(*grid, out))
        say(f"step {step}: loss {loss.item():.6f}")
    return losses, kept


def main():
    from hear21passt.models import passt

    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    mels, frames, depth, batch = 32, 50, 2, 3
    out = {"time": 2, "freq": 1, "unstructured": 3}
    passt.first_RUN = False
    shape = dict(
        img_size=(mels, 50), patch_size=8, stride=6, embed_dim=32, depth=depth, num_heads=4,
        distilled=True, s_patchout_t=out["time"], s_patchout_f=out["freq"],
        u_patchout=out["unstructured"],
    )
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        old = passt.PaSST(num_classes=5, **shape).state_dict()
        weights = {n: fill(n, tuple(w.shape)) for n, w in old.items()}
        head = fill("new.head.1.weight", (2, 32)), fill("new.head.1.bias", (2,))
        model = passt.PaSST(num_classes=2, **shape).double()
        report = model.load_state_dict(swap_head(weights, head), strict=False)
        assert report.missing_keys == ["head_dist.weight", "head_dist.bias"], report
        before = {n: p.detach().clone() for n, p in model.named_parameters()}
        count = batch * mels * frames
        mel = [
            torch.from_numpy(
                np.float32(1.5) * hash_uniform(f"mel{s}", count).reshape(batch, 1, mels, frames)
            ).double()
            for s in range(STEPS)
        ]
        targets = [
            torch.from_numpy(hash_uniform(f"target{s}", batch * 2).reshape(batch, 2)).double()
            for s in range(STEPS)
        ]
        losses, kept = finetune(
            model, depth, mel, targets, out, (5, 8), ["patch_embed", "blocks.0.mlp"]
        )
    result = {"losses": torch.tensor(losses, dtype=torch.float64), "keep": torch.stack(kept)}
    for name, p in model.named_parameters():
        if not name.startswith("head_dist."):
            result[name] = (p.detach() - before[name]).float().contiguous()
    save_file(result, folder / "finetune_step.safetensors")
    moved = {n: float(u.abs().max()) for n, u in result.items() if u.dtype == torch.float32}
    print(f"losses {losses}; largest update {max(moved.values()):.4f}, "
          f"not moved: {sorted(n for n, u in moved.items() if u == 0)}")


if __name__ == "__main__":
    main()
