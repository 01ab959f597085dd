"""Faults of one of several ranks, which mpirun has started; ranks on two hosts are played by two daemons here."""
import json
import os
import shutil
import signal
import struct
import time
from pathlib import Path

from harness import Failed, fault, last_step, metrics, processes_of

NEEDS = ("mpirun",)
WRAPPER = """#!/bin/sh
# What one rank does differently: FAULT_RANK, FAULT (as ONPA_FAULT), FAULT_SET (a setting), FAULT_PROGRAM, FAULT_DATA.
program=$1; shift
if [ "$OMPI_COMM_WORLD_RANK" = "$FAULT_RANK" ]; then
  [ -z "$FAULT" ] || export ONPA_FAULT="$FAULT"
  [ -z "$FAULT_SET" ] || set -- "$@" --set "$FAULT_SET"
  if [ -n "$FAULT_DATA" ]; then
    for word; do
      shift
      [ "$before" != --data ] || word=$FAULT_DATA
      before=$word
      set -- "$@" "$word"
    done
  fi
  program=${FAULT_PROGRAM:-$program}
fi
exec "$program" "$@"
"""
# Stands for ssh: the first word is the host, the rest is run here, in a session of its own.
AGENT = "#!/bin/sh\nshift\nexec setsid sh -c \"$*\"\n"


def script(t, name: str, text: str) -> str:
    path = t.folder / name
    if not path.exists():
        path.write_text(text)
        path.chmod(0o755)
    return str(path)


def mpirun(t, ranks: int, nodes: int = 1) -> list[str]:
    words = [t.tools.mpirun, "--oversubscribe", "--allow-run-as-root", "--bind-to", "none", "-np", str(ranks)]
    if nodes > 1:
        hosts = ",".join([f"{os.uname().nodename}:{ranks // nodes}"] +
                         [f"127.0.0.{n + 1}:{ranks // nodes}" for n in range(1, nodes)])
        words[1:1] = ["--mca", "plm_rsh_agent", script(t, "agent", AGENT), "-H", hosts, "--mca", "btl", "self,tcp",
                      "--mca", "btl_tcp_if_include", "lo", "--mca", "oob_tcp_if_include", "lo"]
    return words + [script(t, "wrapper", WRAPPER)]


def start(t, args, ranks: int = 3, nodes: int = 1, rank: int = 1, fault: str = "", **env):
    environment = {"FAULT_RANK": str(rank), "FAULT": fault,
                   **{f"FAULT_{k.upper()}": str(v) for k, v in env.items()}}
    return t.start(*args, env=environment, prefix=mpirun(t, ranks, nodes))


def run(t, args, *more, seconds: float = 60, **named):
    return t.end(start(t, args, *more, **named), seconds)


def dense(t, name: str, *more: str, data: str = "data") -> list[str]:
    return t.dense(name, "train.epochs=2", *more, data=data)


def resume(t, args, whole: str, name: str, *words, ranks: int = 3) -> None:
    again = run(t, args, ranks=ranks)
    t.check(again.code == 0, f"resumed run ends with {again.code};", *words, again.err)
    t.same_run(whole, name, *words)


@fault("SIGKILL of a rank after a step, before, between and after the collectives of a step",
       "mpirun ends within 15 s, no process is left; resumed: same bits, same metrics", "137, then 0", needs=NEEDS)
def killed(t):
    t.dense_data()
    args = lambda name: dense(t, name, "train.checkpoint_steps=4")
    t.code(run(t, args("whole")), 0)
    ways = [(rank, f"step:{step}") for rank in (0, 1, 2) for step in (1, 6, 13, 20)]
    ways += [(rank, f"{site}:{n}") for rank in (0, 2) for site in ("gradient", "weights") for n in (5, 12)]
    ways += [(rank, f"collective:{n}") for rank in (0, 1) for n in range(1, 70, 5)]
    for rank, site in t.some(ways, 3):
        t.tries += 1
        t.forget("a")
        result = run(t, args("a"), rank=rank, fault=f"{site}:kill")
        t.code(result, 137)
        t.check(result.seconds < 15, "took", result.seconds)
        resume(t, args("a"), "whole", "a", rank, site)


@fault("a rank ends by SIGSEGV, std::terminate or exit(0) in the middle of a run",
       "never 0; rank, cause and backtrace on stderr and in the rank's log; no process is left; resumed: same bits", "139, 134, 70; then 0", needs=NEEDS)
def crashed(t):
    t.dense_data()
    args = lambda name: dense(t, name)
    t.code(run(t, args("whole")), 0)
    ways = [(action, *expected, rank) for rank in (0, 2) for action, expected in
            {"segv": (139, "died of SIGSEGV"), "terminate": (134, "died of SIGABRT"),
             "exit": (70, "exit(0) was called in the middle of the work")}.items()]
    for action, code, words, rank in ways if t.exhaustive else ways[2:3]:
        t.tries += 1
        t.forget("a")
        result = run(t, args("a"), rank=rank, fault=f"step:9:{action}")
        t.code(result, code)
        t.says(result, f"onpa: rank {rank}: {words}")
        log = (t.folder / f"a/logs/rank_{rank:03}.log").read_text()
        t.check(words in log and (code == 70 or log.count("onpa(") >= 3), log)
        resume(t, args("a"), "whole", "a", action, rank)


@fault("a rank sleeps for ever: after a step, before a collective, in a thread of its loader",
       "ends within the stall time-out; rank, step and last collective named; resumed: same bits", "82, then 0", needs=NEEDS)
def sleeping(t):
    t.dense_data()
    t.audio_data()
    stall = "5" if t.exhaustive else "2"
    ways = [("dense", 1, "step:7", "step 7"), ("dense", 0, "collective:30", "step"), ("dense", 2, "gradient:5", "step 4"),
            ("passt", 1, "loader:20", "step")]
    for model, rank, site, step in ways if t.exhaustive else ways[:1]:
        t.tries += 1
        args = lambda name: (dense(t, name, f"train.stall_seconds={stall}") if model == "dense" else
                             t.passt(name, f"train.stall_seconds={stall}", "loader.workers=1"))
        t.forget("whole")
        t.forget("a")
        t.code(run(t, args("whole")), 0)
        result = run(t, args("a"), rank=rank, fault=f"{site}:hang")
        t.code(result, 82)
        t.says(result, f"rank {rank}", step, "last collective")
        t.check(result.seconds < float(stall) + 8, "took", result.seconds)
        resume(t, args("a"), "whole", "a", model, site)


def node_processes(mark: str, node: int) -> list[int]:
    """The daemon of a played node, and what it has started."""
    parents, daemon = {}, None
    for pid in processes_of(mark):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        parents[pid] = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
        if words[0].endswith(b"orted") and any(b"vpid" in w for w in words):
            vpid = words[words.index(b"ess_base_vpid") + 1] if b"ess_base_vpid" in words else b""
            if vpid == str(node).encode():
                daemon = pid
    if daemon is None:
        raise Failed("no daemon of the second node")
    found = [daemon]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found


@fault("a whole host freezes: SIGSTOP of its daemon and ranks", "the other host's ranks and mpirun end within the stall "
       "time-out and 20 s, those that are silent named; the run goes on with two daemons again",
       "not 0 (of mpirun), then 0", fast=False, needs=NEEDS)
def frozen_host(t):
    t.dense_data()
    stall = 5 if t.exhaustive else 2
    args = lambda name: t.dense(name, "train.epochs=200", "train.eval_epochs=0", "train.checkpoint_epochs=0",
                                "train.checkpoint_steps=20", "train.log_steps=10", f"train.stall_seconds={stall}")
    for _ in range(3 if t.exhaustive else 1):
        t.tries += 1
        t.forget("a")
        job = start(t, args("a"), ranks=4, nodes=2)
        job.wait_for("step 40/")
        frozen = node_processes(job.mark, 1)
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)
        begin = time.monotonic()
        result = job.wait(stall + 25)
        t.check(time.monotonic() - begin < stall + 20, "took", time.monotonic() - begin)
        t.check(result.code != 0, result.code)
        t.says(result, "stalled: no progress", "rank 2 has not come", "rank 3 has not come")
        time.sleep(1)
        for pid in set(processes_of(job.mark)) - set(frozen):
            name = Path(f"/proc/{pid}/comm").read_text().strip()
            t.check(name not in ("onpa", "mpirun", "mpiexec"), name, "is left over on the host that works")
        for pid in frozen:
            os.kill(pid, signal.SIGKILL)
        t.end(job)  # nothing is left
        t.code(t.end(start(t, args("a") + ["--set", "train.max_steps=80"], ranks=4, nodes=2)), 0)


@fault("the daemon of a host is killed, or mpirun itself", "everything is gone in 5 s; the newest checkpoint loads; "
       "resumed: same bits", "205 or 137, then 0", needs=NEEDS)
def killed_launcher(t):
    t.dense_data()
    args = lambda name: t.dense(name, "train.epochs=30", "train.eval_epochs=10", "train.checkpoint_epochs=0",
                                "train.checkpoint_steps=20", "train.log_steps=10")
    t.code(run(t, args("whole"), ranks=4, nodes=2), 0)
    for who in ("daemon", "mpirun") * 5 if t.exhaustive else ("daemon",):
        t.tries += 1
        t.forget("a")
        job = start(t, args("a"), ranks=4, nodes=2)
        job.wait_for("step 40/")
        os.kill(node_processes(job.mark, 1)[0] if who == "daemon" else job.pid, signal.SIGKILL)
        result = t.end(job, 10, grace=5)
        t.check(result.code != 0, who, result.code)
        again = run(t, args("a"), ranks=4, nodes=2)
        t.code(again, 0)
        t.same_run("whole", "a", who)


@fault("the loss or the gradient of one rank is NaN", "the step is skipped on all ranks; their weights stay equal", "0",
       needs=NEEDS)
def nan_on_one_rank(t):
    t.dense_data()
    for rank, site, step in t.some([(r, s, n) for r in (0, 1, 2) for s in ("loss", "gradient") for n in (2, 9)], 2):
        t.tries += 1
        t.forget("a")
        result = run(t, dense(t, "a", "train.hash_steps=1"), rank=rank, fault=f"{site}:{step}:nan")
        t.code(result, 0)
        t.says(result, f"step {step}: loss", "step skipped")
        state = json.loads((t.folder / "a/checkpoints/last/state.json").read_text())
        t.check(state["nonfinite_total"] == 1, state)


@fault("one rank's weights change a little", "noticed at the next comparison of hashes; the rank named; no checkpoint of "
       "it", "84", needs=NEEDS)
def weights_drift(t):
    t.dense_data()
    for rank, every in ((1, 1), (0, 5), (2, 5)) if t.exhaustive else ((1, 5),):
        t.tries += 1
        t.forget("a")
        result = run(t, dense(t, "a", f"train.hash_steps={every}", "train.checkpoint_steps=3"), rank=rank,
                     fault="weights:7:nudge")
        t.code(result, 84)
        t.says(result, f"rank {rank}")
        t.check(last_step(t.folder / "a") <= 6, last_step(t.folder / "a"))


@fault("ranks disagree on a setting, the program or the data set", "refused before the first step; the odd rank named, "
       "and what differs", "78", needs=NEEDS)
def disagreement(t):
    t.dense_data()
    t.dense_data("other", seed=8)
    copy = t.folder / "copy"
    shutil.copy(t.tools.onpa, copy)
    with open(copy, "ab") as program:
        program.write(b"\0")
    for env, words in (({"set": "train.lr=0.02"}, "train.lr"), ({"program": copy}, "program"),
                       ({"data": t.folder / "other"}, "data")):
        for rank in (0, 1, 2) if t.exhaustive else (1,):
            t.tries += 1
            t.forget("a")
            result = run(t, dense(t, "a"), rank=rank, **env)
            t.code(result, 78)
            t.says(result, words, f"rank {rank}")
            t.check(last_step(t.folder / "a") == 0)


@fault("a setting, data folder or run folder that is wrong, under mpirun", "said once; all ranks end", "78, 66, 73",
       needs=NEEDS)
def said_once(t):
    t.dense_data()
    (t.folder / "file").write_text("x")
    for args, code, words in ((dense(t, "a", "train.epohcs=3"), 78, "did you mean"),
                              (dense(t, "a", data="none"), 66, "none"), (dense(t, "file"), 73, "file")):
        t.tries += 1
        result = run(t, args)
        t.code(result, code)
        t.says(result, words)
        said = [line for line in result.err.splitlines() if "onpa: " in line]
        t.check(len(said) == 1, said)


@fault("fewer rows than ranks; a last batch that gives a rank nothing", "trains and evaluates", "0", needs=NEEDS)
def few_rows(t):
    t.dense_data("three", 3)
    t.dense_data("odd", 43)
    for data in ("three", "odd"):
        t.tries += 1
        t.forget("a")
        result = run(t, dense(t, "a", data=data), ranks=4)
        t.code(result, 0)
        t.check(metrics(t.folder / "a")[-1]["test_rmse"] >= 0 if data == "odd" else True)


def weights_of(run_folder: Path) -> dict:
    data = (run_folder / "checkpoints/last/model.safetensors").read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    out = {}
    for name, tensor in json.loads(data[8:8 + size]).items():
        if name != "__metadata__" and tensor["dtype"] == "F32":
            begin, end = tensor["data_offsets"]
            out[name] = struct.unpack(f"<{(end - begin) // 4}f", data[8 + size + begin:8 + size + end])
    return out


@fault("stopped and resumed with another number of ranks: 1, 2, 3 and 4", "goes on from the same row; weights as of a run "
       "that never changed, to 1e-6", "0", needs=NEEDS)
def other_world(t):
    t.dense_data()
    args = lambda name, steps: dense(t, name, f"train.max_steps={steps}", "average.kind=ema", "train.epochs=4")
    t.code(run(t, args("whole", 12), ranks=2), 0)
    whole = weights_of(t.folder / "whole")
    for worlds in ((4, 2), (1, 3), (3, 1), (2, 4)) if t.exhaustive else ((4, 1),):
        t.tries += 1
        t.forget("a")
        t.code(run(t, args("a", 5), ranks=worlds[0]), 0)
        t.code(run(t, args("a", 12), ranks=worlds[1]), 0)
        other = weights_of(t.folder / "a")
        worst = max(abs(x - y) for name in whole for x, y in zip(whole[name], other[name]))
        t.check(worst < 1e-6, worlds, "differ by", worst)
        ours, theirs = ([line["step"] for line in metrics(t.folder / name) if "test_rmse" not in line]
                        for name in ("whole", "a"))
        t.check(ours == theirs, "lines of metrics differ")


@fault("the same ranks on two hosts instead of one", "same bits, same metrics", "0", needs=NEEDS)
def two_hosts(t):
    t.dense_data()
    for ranks in (8, 4) if t.exhaustive else (4,):
        t.tries += 1
        for name in ("whole", "a"):
            t.forget(name)
        t.code(run(t, dense(t, "whole"), ranks=ranks), 0)
        t.code(run(t, dense(t, "a"), ranks=ranks, nodes=2), 0)
        t.same_run("whole", "a", ranks)


@fault("SIGUSR1 to mpirun at a random time", "all ranks stop after the same step, with a checkpoint of it; resumed: same "
       "bits", "75, then 0", needs=NEEDS)
def usr1(t):
    t.dense_data()
    args = lambda name: t.dense(name, "train.epochs=40", "train.eval_epochs=10", "train.checkpoint_steps=0",
                                "train.checkpoint_epochs=0")
    t.code(run(t, args("whole")), 0)
    wanted = 20 if t.exhaustive else 1
    while t.tries < wanted:
        t.forget("a")
        job = start(t, args("a"))
        job.wait_for("step 1/")
        time.sleep(t.rng.uniform(0, 0.5))
        job.send(signal.SIGUSR1)
        result = t.end(job)
        # It came after the last step, or when mpirun had put its own handler away again.
        mpirun_died = result.code == 138 and "exited on signal" not in result.err
        if result.code == 0 or mpirun_died and "the newest; evaluate it" in result.err:
            continue
        t.tries += 1
        t.code(result, 75)
        step = last_step(t.folder / "a")
        t.says(result, f"stopped at step {step};")
        resume(t, args("a"), "whole", "a", step)


@fault("SIGTERM to mpirun", "mpirun gives its ranks a second; the newest checkpoint loads; resumed: same bits",
       "1 or 143 (of mpirun), then 0", fast=False, needs=NEEDS)
def term(t):
    t.dense_data()
    args = lambda name: t.dense(name, "train.epochs=40", "train.eval_epochs=10", "train.checkpoint_epochs=0",
                                "train.checkpoint_steps=25")
    t.code(run(t, args("whole")), 0)
    for _ in range(10 if t.exhaustive else 1):
        t.tries += 1
        t.forget("a")
        job = start(t, args("a"))
        job.wait_for("step 30/")
        job.send(signal.SIGTERM)
        result = t.end(job)
        t.check(result.code != 0, result.code)
        resume(t, args("a"), "whole", "a")


@fault("the disk of rank 0 is full at a checkpoint; its only checkpoints are damaged", "training goes on, or ends on all "
       "ranks with the message once", "0 or 74; 83", needs=NEEDS)
def rank_0_alone_fails(t):
    t.dense_data()
    args = lambda name: dense(t, name)
    t.code(run(t, args("whole")), 0)
    for n in t.some(range(1, 80, 4), 1):
        t.tries += 1
        t.forget("a")
        result = run(t, args("a"), rank=0, fault=f"checkpoint:{n}:enospc")
        t.code(result, 0, 74)
        t.says(result, "No space left on device")
        resume(t, args("a"), "whole", "a", n)
    t.tries += 1
    for path in (t.folder / "a/checkpoints").glob("step_*/model.safetensors"):
        path.write_bytes(b"")
    result = run(t, args("a"))
    t.code(result, 83)
    t.check(result.err.count("no valid checkpoint to resume from") == 1, result.err)
