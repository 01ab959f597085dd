"""Golden scene and timestamp embeddings of the public wrappers (package hear21passt, v0.0.26).

Two small models whose time table covers one second, at hops of 320 and 160 samples, and noise, all
from the hash of make_passt.py; float64.

usage: PYTHONPATH=path/to/passt_hear21 python make_hear.py [OUT_FOLDER]
"""

import contextlib
import io
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from make_passt import build, hash_uniform

CLIPS = {"half": 16000, "short": 3000, "second": 32000, "over": 33000, "long": 45001}
OUTPUTS = 5


def wave(samples):
    return 0.3 * torch.from_numpy(hash_uniform("wave", samples))[None].double()


def wrapper(hop, **arguments):
    from hear21passt.models.preprocess import AugmentMelSTFT
    from hear21passt.wrapper import PasstBasicWrapper

    mel = AugmentMelSTFT(n_mels=128, sr=32000, win_length=800, hopsize=hop, n_fft=1024, freqm=48,
                         timem=192, htk=False, fmin=0.0, fmax=None, norm=1, fmin_aug_range=10,
                         fmax_aug_range=2000)
    net = build(img_size=(128, 32000 // hop - 2), patch_size=16, stride=10, embed_dim=64, depth=2,
                num_heads=1, num_classes=OUTPUTS)
    model = PasstBasicWrapper(mel=mel, net=net, max_model_window=1000, **arguments)
    return model.double().eval()


def main():
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    tensors = {}
    torch.set_default_dtype(torch.float64)  # of the mel bank too
    with contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
        from hear21passt import base2level, base2levelmel, hop160base2lvlmel

        model = wrapper(320, scene_hop=250)
        for name, samples in CLIPS.items():
            if samples > 4800:
                tensors["scene." + name] = model.get_scene_embeddings(wave(samples))[0]
        embeddings, times = model.get_timestamp_embeddings(wave(CLIPS["half"]))
        tensors |= {"stamps.half": embeddings[0], "times.half": times[0]}
        tensors["stamps.short"] = model.get_timestamp_embeddings(wave(CLIPS["short"]))[0][0]
        for layout, package, function in (
            ("base2level", base2level, "get_2lvl_timestamp_embeddings"),
            ("base2levelmel", base2levelmel, "get_2lvlmel_timestamp_embeddings"),
        ):
            rows, _ = getattr(package, function)(wave(20000), model)
            tensors["stamps." + layout] = rows[0, ::3]
        three = wrapper(320, scene_hop=500)
        tensors["scene.three"] = three.get_scene_embeddings(wave(CLIPS["over"]))[0]
        features = wrapper(320, scene_hop=250, mode="embed_only")
        tensors["scene.features"] = features.get_scene_embeddings(wave(CLIPS["long"]))[0]
        hop160 = wrapper(160, scene_hop=250)
        tensors["scene.hop160"] = hop160.get_scene_embeddings(wave(CLIPS["over"]))[0]
        rows, _ = hop160base2lvlmel.get_timestamp_embeddings(wave(20000), hop160)
        tensors["stamps.hop160"] = rows[0, ::3]
    save_file({k: v.contiguous().float() for k, v in tensors.items()}, out / "hear.safetensors")
    for name, tensor in tensors.items():
        print(name, tuple(tensor.shape), f"{tensor.abs().mean():.4f}")


if __name__ == "__main__":
    main()
