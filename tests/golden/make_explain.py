"""Golden attention maps and attributions of the public implementation (package hear21passt, v0.0.26).

Weights and input come from the hash of make_passt.py. Attention is read off the package's own
modules, gradients are PyTorch's, everything in float64.

usage: PYTHONPATH=path/to/passt_hear21 python make_explain.py [OUT_FOLDER]
"""

import contextlib
import io
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from make_passt import build, mel_input

MELS, FRAMES, OUTPUT, STEPS = 32, 53, 3, 16
BASELINE = -1.402585  # the front end's value for silence


def attention_of(model, mel):
    """Per layer (heads, N, N): what each block's dropout gets, which is the softmax."""
    kept = []
    hooks = [
        block.attn.attn_drop.register_forward_hook(lambda module, given, made: kept.append(given[0][0]))
        for block in model.blocks
    ]
    with torch.no_grad():
        model(mel)
    for hook in hooks:
        hook.remove()
    return kept


def rollout_of(layers):
    product = torch.eye(layers[0].shape[-1], dtype=torch.float64)
    for attention in layers:
        mixed = 0.5 * attention.mean(dim=0) + 0.5 * torch.eye(attention.shape[-1], dtype=torch.float64)
        product = (mixed / mixed.sum(dim=-1, keepdim=True)) @ product
    return product[:2]


def output_and_gradient(model, mel):
    mel = mel.clone().requires_grad_()
    logits, _ = model(mel)
    logits[0, OUTPUT].backward()
    return logits[0, OUTPUT].detach(), mel.grad[0, 0]


def main():
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    with contextlib.redirect_stderr(io.StringIO()):
        model = build(
            img_size=(MELS, 62), patch_size=8, stride=6, embed_dim=32, depth=3, num_heads=4,
            num_classes=5,
        ).double()
        mel = mel_input(1, MELS, FRAMES).double()
        silence = torch.full_like(mel, BASELINE)
        layers = attention_of(model, mel)
        value, gradient = output_and_gradient(model, mel)
        baseline_value, _ = output_and_gradient(model, silence)
        mean_gradient = sum(
            output_and_gradient(model, silence + (i + 0.5) / STEPS * (mel - silence))[1]
            for i in range(STEPS)
        ) / STEPS
    integrated = mean_gradient * (mel - silence)[0, 0]
    tensors = {
        "rollout": rollout_of(layers),
        "mean_1": layers[1].mean(dim=0)[:2],
        "head_2_1": layers[2][1, :2],
        "gradient": gradient,
        "integrated": integrated,
        "values": torch.stack([value, baseline_value]),
    }
    save_file({k: v.contiguous().float() for k, v in tensors.items()}, out / "explain.safetensors")
    print(f"f {value:.5f}, of silence {baseline_value:.5f}, integrated sums to {integrated.sum():.5f}")


if __name__ == "__main__":
    main()
