"""Rows of audio and files in PyTorch: mel, decoding, checkpoints. Packages that are missing only
take away the variants that need them."""
import contextlib
import importlib.metadata
import io
import os
import sys
import types

import torch

from torch_kernels import compiled

# torchaudio's extension refuses a PyTorch built for another CUDA; neither's CUDA side is used here.
torch.version.cuda = None
try:
    import torchaudio
except ImportError:
    torchaudio = None
try:
    import torchcodec.decoders
except (ImportError, RuntimeError, OSError):  # no build for this PyTorch, or no FFmpeg
    torchcodec = None
try:
    import safetensors.torch
except ImportError:
    safetensors = None

RATE_HZ, FFT, WINDOW, HOP, MELS, FMAX_HZ = 32000, 1024, 800, 320, 128, 15000.0
CHECKED = "blocks.5.attn.qkv.weight"


def versions() -> dict:
    """Versions of what the virtual environment has; None where it cannot be used."""
    def version(package: str) -> str | None:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(package)

    usable = {"torchaudio": torchaudio, "torchcodec": torchcodec, "safetensors": safetensors,
              "hear21passt": passt_front_end() if torchaudio else None}
    return {"torch": torch.__version__, "config": torch.__config__.show(),
            "parallel": torch.__config__.parallel_info(), "python": sys.version.split()[0]} | {
                name: version(name) if module else None for name, module in usable.items()}


def passt_front_end():
    """The public PaSST code's front end in evaluation, or None without the package."""
    # The package takes one download helper from timm, which the front end does not use.
    for name in ("timm", "timm.models", "timm.models._hub"):
        sys.modules.setdefault(name, types.ModuleType(name))
    sys.modules["timm.models._hub"].download_cached_file = None
    try:
        from hear21passt.models.preprocess import AugmentMelSTFT
    except ImportError:
        return None
    with contextlib.redirect_stdout(io.StringIO()):
        return AugmentMelSTFT(n_mels=MELS, sr=RATE_HZ, win_length=WINDOW, hopsize=HOP, n_fft=FFT, freqm=0,
                              timem=0, fmin=0.0, fmax=None, fmin_aug_range=10, fmax_aug_range=2000).eval()


def mel_bank() -> torch.Tensor:
    """(mels, bins), as mel_bank() of bench/libtorch/mel.cpp."""
    def mel_of(hz):
        return 1127 * torch.log1p(torch.as_tensor(hz, dtype=torch.float64) / 700)

    step = mel_of(FMAX_HZ) / (MELS + 1)
    left = torch.arange(MELS, dtype=torch.float64)[:, None] * step
    mel = mel_of(torch.arange(FFT // 2, dtype=torch.float64) * RATE_HZ / FFT)
    bank = torch.minimum((mel - left) / step, (left + 2 * step - mel) / step).clamp(min=0)
    return torch.nn.functional.pad(bank, (0, 1)).float()


def mel(job: dict, inputs: dict):
    wave, bank, variant = inputs["wave"], mel_bank(), job["variant"]
    window = torch.hann_window(WINDOW, periodic=False)

    def by_stft(wave):
        y = wave[:, 1:] - 0.97 * wave[:, :-1]
        spectrum = torch.stft(y, FFT, HOP, WINDOW, window, return_complex=True)
        power = torch.view_as_real(spectrum).square().sum(-1)
        return (torch.log(torch.matmul(bank, power) + 1e-5) + 4.5) / 5

    if variant == "torchaudio":
        pipeline = torchaudio.transforms.MelSpectrogram(
            RATE_HZ, FFT, WINDOW, HOP, n_mels=MELS, window_fn=torch.hann_window, wkwargs={"periodic": False})
        pipeline.mel_scale.fb = bank.t().contiguous()  # its own bank has other triangles

        def function(wave):
            return (torch.log(pipeline(wave[:, 1:] - 0.97 * wave[:, :-1]) + 1e-5) + 4.5) / 5
    elif variant == "hear21passt":
        function = passt_front_end()
    else:
        function = compiled(by_stft, variant)

    def run():
        with torch.no_grad():
            return function(wave)

    return lambda: {"mel": run()}, run


def decode(job: dict, _):
    """30 s of mp3 to 32 kHz mono; both ends stay out of the comparison, as in onpa_audio.cpp."""
    path, samples = os.path.join(job["folder"], "clip.mp3"), RATE_HZ * int(job["args"]["seconds"])
    if job["variant"] == "torchaudio":
        resampler = torchaudio.transforms.Resample(44100, RATE_HZ)

        def run():
            wave, _ = torchaudio.load(path)
            return resampler(wave.mean(0))
    else:

        def run():
            decoder = torchcodec.decoders.AudioDecoder(path, sample_rate=RATE_HZ, num_channels=1)
            return decoder.get_all_samples().data[0]

    return lambda: {"wave": run()[RATE_HZ // 2 : samples - RATE_HZ // 2]}, run


def sync(path: str) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def checkpoint_save(job: dict, inputs: dict):
    variant = job["variant"]
    path = os.path.join(job["folder"], variant.split()[0])

    def run():
        if variant.startswith("safetensors"):
            safetensors.torch.save_file(inputs, path)
        else:
            torch.save(inputs, path)
        if variant.endswith("synced"):
            sync(path)

    def check():
        run()
        read = safetensors.torch.load_file(path) if variant.startswith("safetensors") else torch.load(path)
        return {CHECKED: read[CHECKED]}

    return check, run


def checkpoint_load(job: dict, inputs: dict):
    variant = job["variant"]
    path = os.path.join(job["folder"], variant.split()[0])
    model = {name: torch.empty_like(tensor) for name, tensor in inputs.items()}
    if variant == "safetensors":
        safetensors.torch.save_file(inputs, path)
    else:
        torch.save(inputs, path)

    def run():
        read = (safetensors.torch.load_file(path) if variant == "safetensors" else
                torch.load(path, mmap=variant.endswith("mmap"), weights_only=True))
        for name, tensor in model.items():
            tensor.copy_(read[name])

    def check():
        run()
        return {CHECKED: model[CHECKED]}

    return check, run


KINDS = {"mel": mel, "decode": decode, "checkpoint_save": checkpoint_save, "checkpoint_load": checkpoint_load}
