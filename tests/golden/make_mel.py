"""Writes mel_wave.npy, mel_eval.npy and mel_jitter.npy: a half-second waveform and its normalised
log-mel by the public formula of PaSST's front end, from torch.stft and torchaudio's Kaldi mel bank.

Run: python tests/golden/make_mel.py   (numpy, torch, torchaudio)
"""
import pathlib

import numpy as np
import torch

torch.version.cuda = None  # only CPU code is used, so the wheels' CUDA versions need not agree
import torchaudio  # noqa: E402
import torchaudio.compliance.kaldi  # noqa: E402

RATE, FFT, WIN, HOP, MELS = 32000, 1024, 800, 320, 128


def log_mel(wave, fmin, fmax):
    kernel = torch.tensor([[[-0.97, 1.0]]], dtype=wave.dtype)
    emphasised = torch.nn.functional.conv1d(wave[None, None], kernel)[0, 0]
    window = torch.hann_window(WIN, periodic=False, dtype=wave.dtype)
    spectrum = torch.stft(emphasised, FFT, hop_length=HOP, win_length=WIN, window=window,
                          center=True, pad_mode="reflect", normalized=False, return_complex=True)
    power = spectrum.real**2 + spectrum.imag**2
    bank, _ = torchaudio.compliance.kaldi.get_mel_banks(
        MELS, FFT, RATE, fmin, fmax, vtln_low=100.0, vtln_high=-500.0, vtln_warp_factor=1.0)
    bank = torch.nn.functional.pad(bank, (0, 1)).to(wave.dtype)  # no weight at Nyquist
    return (torch.log(bank @ power + 1e-5) + 4.5) / 5.0


def main():
    folder = pathlib.Path(__file__).parent
    rng = np.random.default_rng(7)
    t = np.arange(RATE // 2) / RATE
    chirp = 0.3 * np.sin(2 * np.pi * (300 * t + 9000 * t**2))
    wave = chirp + 0.05 * rng.standard_normal(t.size) * np.exp(-6 * t)
    wave = wave.astype(np.float32)
    np.save(folder / "mel_wave.npy", wave[None])
    exact = torch.from_numpy(wave).double()
    np.save(folder / "mel_eval.npy", log_mel(exact, 0.0, 15000.0).float().numpy()[None])
    np.save(folder / "mel_jitter.npy", log_mel(exact, 9.0, 14001.0).float().numpy()[None])


if __name__ == "__main__":
    main()
