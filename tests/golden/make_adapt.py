"""Golden values of fitting weights to another PaSST: torch's interpolation, and the public
package's way from an ImageNet transformer's weights to its own.

Weights come from an integer hash that tests/support/hash_fill.h repeats bit by bit, so only results
are stored: the resized tables, and the features of an adapted model.

usage: PYTHONPATH=path/to/passt_hear21 python make_adapt.py [OUT_FOLDER]
Needs torch and safetensors.
"""

import contextlib
import io
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from make_passt import fill, hash_uniform, mel_input

MELS, FRAMES, PATCH, WIDTH, DEPTH, MLP, SIDE, CLASSES = 64, 176, 16, 64, 3, 256, 6, 5


def time_tables(out):
    table = fill("time_new_pos_embed", (1, 5, 1, 7)).double()
    for columns in (1, 4, 7, 12, 31):
        resized = torch.nn.functional.interpolate(
            table, size=(1, columns), mode="bilinear", align_corners=False
        )
        out[f"time_{columns}"] = resized.float()
    grid = torch.from_numpy(hash_uniform("grid", 3 * 6 * 7).reshape(1, 3, 6, 7)).double()
    for rows, columns in ((1, 1), (6, 7), (4, 19), (13, 2)):
        resized = torch.nn.functional.interpolate(
            grid, size=(rows, columns), mode="bicubic", align_corners=False
        )
        out[f"grid_{rows}_{columns}"] = resized.float()


def deit_weights():
    shapes = {
        "cls_token": (1, 1, WIDTH),
        "dist_token": (1, 1, WIDTH),
        "pos_embed": (1, 2 + SIDE * SIDE, WIDTH),
        "patch_embed.proj.weight": (WIDTH, 3, PATCH, PATCH),
        "patch_embed.proj.bias": (WIDTH,),
        "norm.weight": (WIDTH,),
        "norm.bias": (WIDTH,),
        "head.weight": (10, WIDTH),
        "head.bias": (10,),
        "head_dist.weight": (10, WIDTH),
        "head_dist.bias": (10,),
    }
    for i in range(DEPTH):
        for name, shape in {
            "norm1.weight": (WIDTH,),
            "norm1.bias": (WIDTH,),
            "attn.qkv.weight": (3 * WIDTH, WIDTH),
            "attn.qkv.bias": (3 * WIDTH,),
            "attn.proj.weight": (WIDTH, WIDTH),
            "attn.proj.bias": (WIDTH,),
            "norm2.weight": (WIDTH,),
            "norm2.bias": (WIDTH,),
            "mlp.fc1.weight": (MLP, WIDTH),
            "mlp.fc1.bias": (MLP,),
            "mlp.fc2.weight": (WIDTH, MLP),
            "mlp.fc2.bias": (WIDTH,),
        }.items():
            shapes[f"blocks.{i}.{name}"] = shape
    return {name: fill(name, shape) for name, shape in shapes.items()}


def deit(out):
    from hear21passt.models import passt
    from hear21passt.models.helpers.vit_helpers import adapt_input_conv

    passt.first_RUN = False
    model = passt.PaSST(
        distilled=True,
        img_size=(MELS, FRAMES),
        patch_size=PATCH,
        stride=PATCH,
        in_chans=1,
        embed_dim=WIDTH,
        depth=DEPTH,
        num_heads=1,
        num_classes=CLASSES,
    ).double()
    weights = {n: w.double() for n, w in deit_weights().items()}
    weights = passt.checkpoint_filter_fn({"model": weights}, model)
    # The package sums the channels in single precision; so are its sums rounded.
    weights["patch_embed.proj.weight"] = adapt_input_conv(1, weights["patch_embed.proj.weight"])
    for name in ("head.weight", "head.bias", "head_dist.weight", "head_dist.bias"):
        del weights[name]
    report = model.load_state_dict(weights, strict=False)
    assert not report.unexpected_keys, report.unexpected_keys
    assert all(name.startswith("head") for name in report.missing_keys), report.missing_keys
    for name in ("new_pos_embed", "freq_new_pos_embed", "time_new_pos_embed"):
        out[name] = weights[name].float().contiguous()
    out["patch"] = weights["patch_embed.proj.weight"].float().contiguous()
    with torch.no_grad():
        _, features = model.eval()(mel_input(2, MELS, FRAMES).double())
    out["features"] = features.float()


def main():
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    out = {}
    with contextlib.redirect_stderr(io.StringIO()):
        time_tables(out)
        deit(out)
    save_file(out, folder / "adapt.safetensors")
    print(f"adapt.safetensors: {', '.join(out)}; features std {out['features'].std():.3f}")


if __name__ == "__main__":
    main()
