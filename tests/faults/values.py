"""Values that are not finite."""
import json
import struct

from harness import fault, metrics


@fault("a loss or a gradient is NaN once", "the step is skipped, said and counted; weights stay finite", "0")
def one_step(t):
    t.dense_data()
    whole = t.whole(t.dense_autograd("whole"))
    for site in ("loss", "gradient"):
        for step in t.some(range(1, 41), 2):
            t.tries += 1
            t.forget("a")
            result = t.run(*t.dense_autograd("a"), env={"ONPA_FAULT": f"{site}:{step}:nan"})
            t.code(result, 0)
            t.says(result, f"warning: step {step}: loss", "step skipped")
            t.check(result.err.count("step skipped") == 1, result.err)
            state = json.loads((t.folder / "a/checkpoints/last/state.json").read_text())
            t.check(state["nonfinite_total"] == 1, state)
            ours, theirs = metrics(whole), metrics(t.folder / "a")
            t.check(ours[:step - 1] == theirs[:step - 1], "the steps before differ")
            t.check(len(ours) == len(theirs), "lines of metrics")
            t.clean("a")


@fault("losses or gradients are NaN from a step on", "stops after train.max_nonfinite steps; the newest checkpoint is "
       "finite and from before; without the fault: same bits as a run that never had it", "80, then 0")
def every_step(t):
    t.dense_data()
    args = lambda run: t.dense_autograd(run, "train.max_nonfinite=3", "train.checkpoint_epochs=0")
    t.whole(args("whole"))
    for site in ("loss", "gradient"):
        for step in t.some(range(8, 35), 1):
            t.tries += 1
            t.forget("a")
            result = t.run(*args("a"), env={"ONPA_FAULT": f"{site}:{step}+:nan"})
            t.code(result, 80)
            t.says(result, f"the last one step {step + 2}", "diverged")
            t.clean("a")
            t.check(not (t.folder / "a/checkpoints" / f"step_{step + 2:08d}").exists())
            if any((t.folder / "a/checkpoints" / f"step_{s:08d}").exists() for s in (step, step + 1)):
                continue  # it goes on after a step that was skipped for good
            t.resume(args("a"), "whole", "a", site, step)


@fault("the weights become NaN", "stops; nothing is saved over the last finite checkpoint; without the fault: same bits",
       "80, then 0")
def weights(t):
    t.dense_data()
    args = lambda run: t.dense_autograd(run, "train.max_nonfinite=5")
    t.whole(args("whole"))
    for step in t.some(range(8, 40), 3):
        t.tries += 1
        t.forget("a")
        result = t.run(*args("a"), env={"ONPA_FAULT": f"weights:{step}:nan"})
        t.code(result, 80)
        t.says(result, "diverged")
        newest = t.folder / "a/checkpoints/last"
        t.check(int(newest.readlink().name[5:]) < step, newest.readlink(), step)
        t.check(t.run_tool("find", text=f"{t.folder / 'a/checkpoints'}\n").stdout.split()[0] ==
                str(int(newest.readlink().name[5:])), "the newest is not finite")
        t.resume(args("a"), "whole", "a", step)


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
