"""Golden outputs of PaSST from the public implementation (package hear21passt, v0.0.26).

Weights and inputs come from an integer hash that tests/support/hash_fill.h repeats bit by bit, so
only outputs are stored. Everything is computed in float64, so that the stored values carry no error
of their own; the largest difference of the package's own float32 result is printed beside.

usage: PYTHONPATH=path/to/passt_hear21 python make_passt.py [OUT_FOLDER]
Needs torch and, for the wave case, torchaudio.
"""

import contextlib
import io
import math
import sys
import types
from pathlib import Path

import numpy as np
import torch
from torch.func import functional_call

# The package takes one download helper from timm, which nothing here calls.
for module_name in ("timm", "timm.models", "timm.models._hub"):
    sys.modules.setdefault(module_name, types.ModuleType(module_name))
sys.modules["timm.models._hub"].download_cached_file = None


def fnv1a(text):
    h = 0x811C9DC5
    for byte in text.encode():
        h = ((h ^ byte) * 0x01000193) & 0xFFFFFFFF
    return h


def hash_uniform(name, count):
    """float32 values in [-1, 1), the same as onpa::testing::hash_uniform."""
    x = np.arange(count, dtype=np.uint32) * np.uint32(0x9E3779B9) + np.uint32(fnv1a(name))
    x ^= x >> np.uint32(16)
    x *= np.uint32(0x7FEB352D)
    x ^= x >> np.uint32(15)
    x *= np.uint32(0x846CA68B)
    x ^= x >> np.uint32(16)
    return (x >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-23) - np.float32(1)


def centre_and_scale(name, shape):
    """Large enough that every part of the model moves the output, as trained weights do."""
    if "norm" in name or name.startswith("head.0."):
        return (1.0, 0.2) if name.endswith("weight") else (0.0, 0.1)
    if name.endswith("bias"):
        return 0.0, 0.1
    if name.endswith("_token") or name.endswith("_embed"):
        return 0.0, 0.5
    fan_in = math.prod(shape[1:])
    return 0.0, (2.0 if "qkv" in name else 1.0) / math.sqrt(fan_in)


def fill(name, shape):
    centre, scale = centre_and_scale(name, shape)
    values = np.float32(centre) + np.float32(scale) * hash_uniform(name, math.prod(shape))
    return torch.from_numpy(values.reshape(shape))


def build(**arguments):
    from hear21passt.models import passt

    passt.first_RUN = False
    model = passt.PaSST(distilled=True, **arguments)
    model.load_state_dict({n: fill(n, tuple(p.shape)) for n, p in model.state_dict().items()})
    return model.eval()


def mel_input(batch, mels, frames):
    values = np.float32(1.5) * hash_uniform("mel", batch * mels * frames)
    return torch.from_numpy(values.reshape(batch, 1, mels, frames))


def run(model, mel):
    with torch.no_grad():
        logits32, features32 = model(mel)
        logits, features = model.double()(mel.double())
        model.float()
    error = max((logits - logits32).abs().max().item(), (features - features32).abs().max().item())
    return torch.cat([features, logits], dim=1).numpy(), error


def evaluation_cases(out):
    # stride, depth, frames, columns of the time table, batch
    for stride, depth, frames, table_frames, batch in [
        (10, 12, 1000, 998, 1),
        (10, 12, 730, 998, 1),
        (10, 12, 3000, 3000, 1),
        (10, 7, 1000, 998, 1),
        (16, 12, 1000, 998, 1),
        (16, 7, 730, 998, 2),
        (16, 7, 3000, 3000, 1),
    ]:
        model = build(img_size=(128, table_frames), stride=stride, depth=depth)
        values, error = run(model, mel_input(batch, 128, frames))
        name = f"passt_s{stride}_d{depth}_f{frames}.npy"
        np.save(out / name, values)
        print(f"{name}: float32 package differs by {error:.2e}, std {values.std():.3f}", flush=True)


def wave_case(out):
    from hear21passt.models.preprocess import AugmentMelSTFT

    samples = 320000
    t = np.arange(samples) / 32000.0
    wave = 0.2 * hash_uniform("wave", samples).astype(np.float64) + 0.3 * np.sin(
        2 * np.pi * (200 * t + 300 * t * t)
    )
    front = AugmentMelSTFT(fmin_aug_range=10, fmax_aug_range=2000).eval()
    mel = front(torch.from_numpy(wave.astype(np.float32))[None])
    values, error = run(build(img_size=(128, 998), stride=16, depth=7), mel[:, None])
    np.save(out / "passt_wave.npy", values)
    print(f"passt_wave.npy: {tuple(mel.shape)}, float32 package differs by {error:.2e}")


def small_signal_case(out):
    """Tokens and features so small that the epsilons of the norms (1e-6, head 1e-5) show."""
    model = build(
        img_size=(32, 62), patch_size=8, stride=6, embed_dim=32, depth=2, num_heads=4, num_classes=5
    )
    with torch.no_grad():
        for name, p in model.named_parameters():
            if any(part in name for part in ("_token", "_embed", "proj", "fc2", "norm.")):
                p *= 1e-3
    values, error = run(model, mel_input(2, 32, 50))
    np.save(out / "passt_small.npy", values)
    print(f"passt_small.npy: float32 package differs by {error:.2e}")


def training_case(out):
    """Loss and gradients of one step with known patchout and a time offset of 1."""
    mels, frames, offset = 32, 50, 1
    model = build(
        img_size=(mels, 62), patch_size=8, stride=6, embed_dim=32, depth=2, num_heads=4,
        num_classes=5, s_patchout_t=2, s_patchout_f=1, u_patchout=3,
    ).double().train()
    grid_f, grid_t, batch = 5, 8, 3
    draws = []

    def known_permutation(n):
        draws.append(torch.from_numpy(np.argsort(hash_uniform(f"perm{len(draws)}", n))))
        return draws[-1]

    parameters = dict(model.named_parameters())
    table = parameters["time_new_pos_embed"]
    randperm, torch.randperm = torch.randperm, known_permutation
    try:
        logits, _ = functional_call(
            model,
            {**parameters, "time_new_pos_embed": table[..., offset : offset + grid_t]},
            (mel_input(batch, mels, frames).double(),),
        )
    finally:
        torch.randperm = randperm
    target = torch.from_numpy(hash_uniform("target", batch * 5).reshape(batch, 5)).double()
    loss = torch.nn.functional.mse_loss(logits, target)
    loss.backward()

    columns = draws[0][: grid_t - 2].sort().values
    rows = draws[1][: grid_f - 1].sort().values
    cells = (rows[:, None] * grid_t + columns[None, :]).flatten()
    keep = cells[draws[2][: len(cells) - 3].sort().values]
    np.save(out / "passt_train_keep.npy", keep.numpy().astype(np.int32))
    gradients = [
        (torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in model.parameters()
    ]
    np.save(out / "passt_train.npy", torch.cat([loss.detach()[None], *gradients]).float().numpy())
    print(f"passt_train.npy: loss {loss.item():.6f}, {sum(map(len, gradients))} gradients")


def main():
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    with contextlib.redirect_stderr(io.StringIO()):
        small_signal_case(out)
        training_case(out)
        wave_case(out)
        evaluation_cases(out)


if __name__ == "__main__":
    main()
