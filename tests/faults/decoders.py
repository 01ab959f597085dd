"""Decoders that crash, hang or take all memory; they work in processes of their own."""
import os
import signal
import time

from harness import fault, processes_of
from ranks import start as start_ranks
from tracks import listed, spoil

ENDS = {"segv": "the decoder died of SIGSEGV", "terminate": "the decoder died of SIGABRT",
        "kill": "the decoder died of SIGKILL", "exit": "the decoder ended with code 70",
        "allocate": "the decoder ran out of memory", "hang": "the decoder took more than 5 s"}
SPARE = ("data.max_bad_fraction=0.1", "loader.decode_seconds=5")


def reasons(t, run: str) -> str:
    return (t.folder / run / "bad_tracks.csv").read_text()


def same_as_without(t, run: str, *more: str) -> None:
    """The run is one in which the files that it could not decode are text."""
    bad = listed(t, run)
    kept = {clip: (t.folder / "clips_audio" / f"{clip}.mp3").read_bytes() for clip in bad}
    for clip in bad:
        spoil(t, clip)
    t.forget("without")
    t.code(t.run(*t.passt("without", *SPARE, *more)), 0)
    t.check(listed(t, "without") == bad, listed(t, "without"), bad)
    t.same_run("without", run, bad)
    for clip, content in kept.items():
        (t.folder / "clips_audio" / f"{clip}.mp3").write_bytes(content)


@fault("a decoder dies of SIGSEGV, std::terminate, exit(0) or SIGKILL, wants 10 GB, or sleeps for ever, at one file",
       "the file is left out, counted and listed with the reason, the run goes on: same bits as if the file had been text; no "
       "process is left", "0")
def at_one_file(t):
    t.audio_data()
    for action, reason in ENDS.items():
        for n in (1, 7, 19, 32) if t.exhaustive else (9,):  # of the 32 in the first epoch
            t.tries += 1
            t.forget("a")
            result = t.run(*t.passt("a", *SPARE), env={"ONPA_FAULT": f"decoder:{n}:{action}"})
            t.code(result, 0)
            t.check(len(listed(t, "a")) == 1 and reason in reasons(t, "a"), action, n, reasons(t, "a"))
            if action in ("segv", "terminate"):
                t.says(result, "onpa: decoder: died of SIG", "the calls that led there")
            same_as_without(t, "a")


@fault("decoders die, or want 10 GB, at every file from one on", "stops with a checkpoint, counts and the first reasons", "65")
def at_every_file(t):
    t.audio_data()
    for action, n in [(a, n) for a in ("segv", "exit", "allocate") for n in (1, 33)] if t.exhaustive else [("segv", 1)]:
        t.tries += 1
        t.forget("a")
        result = t.run(*t.passt("a", *SPARE), env={"ONPA_FAULT": f"decoder:{n}+:{action}"})
        t.code(result, 65)
        t.says(result, "tracks cannot be used, more than the allowed 10 %", ENDS[action])
        t.clean("a")


@fault("a file on which every decoder crashes, in a run that is killed and resumed", "left out again; same bits as a run that "
       "was not killed", "0; 137, then 0", needs=("shim",))
def crashing_file(t):
    t.audio_data()
    for clip in t.some(("clip3", "clip12", "clip31"), 1):
        env = {"LD_PRELOAD": t.tools.shim, "ONPA_SHIM_CRASH": f"/{clip}.mp3"}
        t.forget("whole")
        t.code(t.run(*t.passt("whole", *SPARE), env=env), 0)
        t.check(listed(t, "whole") == [clip], listed(t, "whole"))
        same_as_without(t, "whole")
        for step in t.some(range(1, 7), 1):
            t.tries += 1
            t.forget("a")
            t.code(t.run(*t.passt("a", *SPARE), env=dict(env, ONPA_FAULT=f"step:{step}:kill")), 137)
            t.code(t.run(*t.passt("a", *SPARE), env=env), 0)
            t.same_bits("whole", "a", clip, step)


@fault("one hour of zeros; a file larger than the memory that a decoder may have; a pipe that nobody writes to",
       "left out, counted and listed with the reason", "0")
def strange_files(t):
    t.audio_data()
    audio = t.folder / "clips_audio"
    for name in ("clip1", "clip12", "clip23"):
        (audio / f"{name}.mp3").unlink()
    rate, size = 8000, 3600 * 8000 * 2
    with open(audio / "clip1.mp3", "wb") as wav:
        wav.write(b"RIFF" + (36 + size).to_bytes(4, "little") + b"WAVEfmt " + (16).to_bytes(4, "little") +
                  b"\1\0\1\0" + rate.to_bytes(4, "little") + (2 * rate).to_bytes(4, "little") + b"\2\0\x10\0data" +
                  size.to_bytes(4, "little"))
        wav.truncate(44 + size)
    with open(audio / "clip12.mp3", "wb") as large:
        large.truncate(1_000_000_000)
    os.mkfifo(audio / "clip23.mp3")
    t.tries += 3
    result = t.run(*t.passt("a", *SPARE, "data.max_bad_fraction=0.1", "loader.decode_gib=0.9"))
    t.code(result, 0)
    text = reasons(t, "a")
    t.check(listed(t, "a") == ["clip1", "clip12", "clip23"], text)
    for words in ("1800 s", "the decoder ran out of memory", ENDS["hang"]):
        t.check(words in text, words, "is not in", text)


@fault("a process for a decoder cannot be made (each in turn, or none of them)", "decoded in the run's own process, one "
       "warning: same bits", "0", needs=("shim",))
def no_process(t):
    t.audio_data()
    t.code(t.run(*t.passt("whole")), 0)
    for n in (1, 2, 3):
        for error in ("EAGAIN", "ENOMEM") if t.exhaustive else ("EAGAIN",):
            t.tries += 1
            t.forget("a")
            env = {"LD_PRELOAD": t.tools.shim, "ONPA_SHIM_FAIL": f"posix_spawn:{n}:{error}"}
            result = t.run(*t.passt("a"), env=env)
            t.code(result, 0)
            t.same_run("whole", "a", n, error)
            if n == 1:
                t.says(result, "files are decoded in this process")
    t.tries += 1
    t.forget("a")
    result = t.run(*t.passt("a", "loader.decode_gib=0.01"))  # too little to start
    t.code(result, 0)
    t.check(result.err.count("files are decoded in this process") == 1, result.err)
    t.same_run("whole", "a")


@fault("SIGKILL, SIGTERM or Ctrl-C to the whole group of processes, while a decoder sleeps for ever", "no process is left; "
       "after a signal that asks, a checkpoint", "137, 75")
def signals_while_it_hangs(t):
    t.audio_data()
    for number, code in ((signal.SIGKILL, 137), (signal.SIGTERM, 75), (signal.SIGINT, 75)):
        for group in (False, True) if t.exhaustive else (number == signal.SIGINT,):
            t.tries += 1
            t.forget("a")
            job = t.start(*t.passt("a", *SPARE, "train.epochs=500", "train.max_steps=0", "loader.prefetch_batches=1"),
                          env={"ONPA_FAULT": "decoder:40:hang"})
            job.wait_for("step 3/")
            time.sleep(t.rng.uniform(0, 0.5))
            (os.killpg if group else os.kill)(job.pid, number)
            t.code(t.end(job), code)


@fault("Ctrl-C, to the decoders too, at a random time", "no track is lost by it; resumed: same bits", "75, then 0")
def interrupted(t):
    t.audio_data()
    args = lambda name: t.passt(name, "train.epochs=4", "train.max_steps=0", "loader.prefetch_batches=1")
    t.code(t.run(*args("whole")), 0)
    wanted = 20 if t.exhaustive else 2
    while t.tries < wanted:
        t.forget("a")
        job = t.start(*args("a"))
        job.wait_for("step 1/")
        time.sleep(t.rng.uniform(0, 0.2))
        os.killpg(job.pid, signal.SIGINT)
        result = t.end(job)
        if result.code == 0:  # it was done
            continue
        t.tries += 1
        t.code(result, 75)
        t.check(not (t.folder / "a/bad_tracks.csv").exists(), "a track was lost")
        t.resume(args("a"), "whole", "a")


@fault("of one rank of several: a decoder dies of SIGSEGV, or sleeps for ever; then the rank is killed meanwhile",
       "the file is left out by all ranks, the run goes on: same bits as if the file had been text; no process is left",
       "0; 137", needs=("mpirun",))
def of_one_rank(t):
    t.audio_data()
    for action, rank, n in (("segv", 1, 3), ("hang", 0, 5), ("segv", 2, 9)) if t.exhaustive else (("segv", 1, 3),):
        t.tries += 1
        t.forget("a")
        result = t.end(start_ranks(t, t.passt("a", *SPARE), rank=rank, fault=f"decoder:{n}:{action}"))
        t.code(result, 0)
        bad = listed(t, "a")
        t.check(len(bad) == 1 and ENDS[action] in reasons(t, "a"), reasons(t, "a"))
        if action == "segv":
            t.says(result, f"onpa: rank {rank}: decoder: died of SIGSEGV")
        spoil(t, bad[0])
        t.forget("without")
        t.code(t.end(start_ranks(t, t.passt("without", *SPARE))), 0)
        t.same_run("without", "a", action, rank)
        t.audio_data()
    t.tries += 1
    t.forget("a")
    job = start_ranks(t, t.passt("a", *SPARE, "loader.decode_seconds=200"), rank=1, fault="decoder:9:hang")
    job.wait_for("step 1/")
    time.sleep(t.rng.uniform(0, 0.5))
    for pid in processes_of(job.mark):
        try:
            with open(f"/proc/{pid}/environ", "rb") as environ, open(f"/proc/{pid}/cmdline", "rb") as words:
                if b"OMPI_COMM_WORLD_RANK=1\0" in environ.read() and b"\0train\0" in words.read():
                    os.kill(pid, signal.SIGKILL)
        except OSError:
            pass
    t.check(t.end(job).code != 0)
