"""Values that are not finite."""
import struct

from harness import fault


def wav_of_floats(samples) -> bytes:
    data = struct.pack(f"<{len(samples)}f", *samples)
    form = struct.pack("<HHIIHH", 3, 1, 32000, 128000, 4, 32)
    return b"RIFF" + struct.pack("<I", 36 + len(data)) + b"WAVEfmt " + struct.pack("<I", 16) + form + \
        b"data" + struct.pack("<I", len(data)) + data


@fault("NaN or infinity among the samples of a file", "the track is left out, counted and listed with its reason", "0")
def a_sample(t):
    t.audio_data()
    tracks = t.folder / "clips/tracks.csv"
    rows = tracks.read_text().replace("clip3.mp3", "clip3.wav").replace("clip11.mp3", "clip11.wav")
    tracks.write_text(rows)
    for value in (float("nan"), float("inf")):
        for name in ("clip3", "clip11"):
            samples = [0.1] * 16000
            samples[t.rng.randrange(16000)] = value
            (t.folder / "clips_audio" / f"{name}.wav").write_bytes(wav_of_floats(samples))
        t.tries += 1
        t.forget("a")
        result = t.run(*t.passt("a", "data.max_bad_fraction=0.1"))
        t.code(result, 0)
        lines = (t.folder / "a/bad_tracks.csv").read_text().splitlines()
        t.check(sorted(line.split(",")[0] for line in lines[1:]) == ["clip11", "clip3"], lines)
        t.check(all("finite" in line for line in lines[1:]), lines)
