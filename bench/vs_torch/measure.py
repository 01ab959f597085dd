"""Runs one row: inputs, checks that results agree, the fastest way of PyTorch, alternating rounds."""
import math
import os
import pathlib
import random
import shutil
import statistics
import sys
import time

import intervals
import rows as table
import workers

SETTLE_SECONDS = 0.02  # OpenMP's threads spin for a few milliseconds after their work
REPETITION_SECONDS = 0.15
PILOT_RUNS = 5
LONG_SECONDS = 1.0  # calls that take longer are tried twice only


class Disagreement(RuntimeError):
    pass


class Bench:
    """Workers and settings of one run of the command."""

    def __init__(self, ours, peers: dict, folder: pathlib.Path, rounds: int, threads: int):
        self.ours, self.peers, self.folder = ours, peers, folder
        self.rounds, self.threads = rounds, threads
        self.draw = random.Random(time.time_ns())

    def job(self, row: table.Row, variant: str = "", threads: int | None = None) -> dict:
        return {"kind": row.kind, "variant": variant, "args": row.args,
                "threads": threads or row.threads or self.threads, "folder": str(self.row_folder(row))}

    def row_folder(self, row: table.Row) -> pathlib.Path:
        return self.folder / row.name.replace("/", "_")

    def write_inputs(self, row: table.Row) -> None:
        folder = self.row_folder(row)
        folder.mkdir(parents=True)
        self.ours.ask(do="inputs", job=self.job(row))

    def all_workers(self) -> list:
        return [self.ours, *self.peers.values()]

    def worker(self, name: str):
        """None if it was not built."""
        return self.ours if name == "onpa" else self.peers.get(name)


def seconds_per_call(worker, calls: int) -> float:
    time.sleep(SETTLE_SECONDS)
    return worker.ask(do="run", calls=calls)["seconds"] / calls


def calls_for(seconds: float) -> int:
    return max(1, min(2000, math.ceil(REPETITION_SECONDS / max(seconds, 1e-7))))


def prepare(bench: Bench, row: table.Row, peer: table.Peer, expected: dict):
    """Readies a variant and checks it. Throws Disagreement, or WorkerError where it cannot run."""
    worker = bench.worker(peer.worker)
    print(f"bench: {row.name}: {peer.title}", file=sys.stderr, flush=True)
    worker.ask(do="prepare", job=bench.job(row, peer.variant, peer.threads))
    reasons = intervals.disagreements(expected, worker.ask(do="check")["outputs"], row.bound)
    if reasons:
        raise Disagreement(f"{peer.title}: " + "; ".join(reasons))
    return worker


def fastest(bench: Bench, row: table.Row, peers: list[table.Peer],
            expected: dict) -> tuple[table.Peer | None, dict]:
    """Tries every way of one side; returns the fastest and what each took in ms, or why it did not run."""
    tried, times = {}, {}
    for peer in peers:
        if bench.worker(peer.worker) is None:
            tried[peer.title] = "not built"
            continue
        try:
            worker = prepare(bench, row, peer, expected)
            once = seconds_per_call(worker, 1)
            runs = 2 if once > LONG_SECONDS else PILOT_RUNS
            times[peer.title] = statistics.median(seconds_per_call(worker, calls_for(once)) for _ in range(runs))
            tried[peer.title] = 1e3 * times[peer.title]
            worker.ask(do="drop")
        except workers.WorkerError as error:
            tried[peer.title] = str(error)
            if bench.worker(peer.worker).process.poll() is not None:
                raise
    return min((p for p in peers if p.title in times), key=lambda p: times[p.title], default=None), tried


def rounds_of(bench: Bench, row: table.Row, ours, theirs) -> tuple[list[float], list[float], dict]:
    """Seconds per call of both, alternating in random order, and what the machine did and could do meanwhile."""
    pair = [ours, theirs]
    calls = {id(w): calls_for(min(seconds_per_call(w, 1), seconds_per_call(w, 1))) for w in pair}
    times: dict[int, list[float]] = {id(ours): [], id(theirs): []}
    start, busy, own = time.monotonic(), workers.busy_seconds(), sum(w.cpu_seconds() for w in bench.all_workers())
    waiting, limits = 0.0, []
    for _ in range(bench.rounds):
        limits.append(bench.ours.ask(do="limits", threads=row.threads or bench.threads, copy=bool(row.bytes)))
        bench.draw.shuffle(pair)
        for worker in pair:
            time.sleep(SETTLE_SECONDS)
            others = [w for w in bench.all_workers() if w is not worker]
            before = sum(w.cpu_seconds() for w in others)
            times[id(worker)].append(worker.ask(do="run", calls=calls[id(worker)])["seconds"] / calls[id(worker)])
            waiting += sum(w.cpu_seconds() for w in others) - before
    wall = time.monotonic() - start
    own = sum(w.cpu_seconds() for w in bench.all_workers()) - own
    state = workers.machine_state() | {
        "cores_busy_with_others": max(0.0, (workers.busy_seconds() - busy - own) / wall),
        "cores_busy_in_waiting_workers": waiting / wall,
        "limits": {key: statistics.median(each[key] for each in limits) for key in limits[0]},
        "calls_per_round": {ours.name: calls[id(ours)], theirs.name: calls[id(theirs)]}}
    return times[id(ours)], times[id(theirs)], state


def side(times: list[float], scale: float = 1e3) -> dict:
    low, middle, high = intervals.quartiles(times)
    return {"median": scale * middle, "quartiles": [scale * low, scale * high], "rounds": [scale * t for t in times]}


def add_rates(row: table.Row, result: dict) -> None:
    """GFLOP/s, GB/s or realtime of both sides, their share of what the machine could do in the same rounds, and
    the ratio that reaching it would give."""
    now = result["machine"]["limits"]
    limits = {"GFLOP/s": now["gflops"], "GB/s": now.get("copy_gbytes")}
    for amount, unit in ((row.flops * 1e-9, "GFLOP/s"), (row.bytes * 1e-9, "GB/s"),
                         (row.audio_seconds, "x realtime")):
        if not amount:
            continue
        result["rate_unit"] = unit
        for name in ("ours", "theirs"):
            rate = amount / (1e-3 * result[name]["median"])
            result[name]["rate"] = rate
            if unit in limits:
                result[name]["share_of_limit"] = rate / limits[unit]
        if unit == "GFLOP/s":
            result["ratio_at_limit"] = 1 / result["theirs"]["share_of_limit"]
    wants = []
    if row.want_realtime:
        wants.append({"what": "x realtime", "value": result["ours"]["rate"], "want": row.want_realtime})
    if row.want_copy_share:
        wants.append({"what": "of the copy bandwidth", "value": result["ours"]["share_of_limit"],
                      "want": row.want_copy_share})
    result["also"] = [w | {"met": w["value"] >= w["want"]} for w in wants]


def run_row(bench: Bench, row: table.Row) -> dict:
    """The row's result. Where results disagree or nothing of PyTorch runs, `failed` says why."""
    result = {"name": row.name, "note": row.note, "unit": "ms", "threads": row.threads or bench.threads,
              "target": row.target, "bound": row.bound, "load_average_before": list(os.getloadavg())}
    try:
        bench.write_inputs(row)
        bench.ours.ask(do="prepare", job=bench.job(row, row.ours[0].variant, row.ours[0].threads))
        expected = bench.ours.ask(do="check")["outputs"]
        best, result["tried_ms"] = fastest(bench, row, row.peers, expected)
        if best is None:
            raise workers.WorkerError("no way of PyTorch ran: " + "; ".join(map(str, result["tried_ms"].values())))
        result["best"] = best.title
        if len(row.ours) > 1:  # else it is ready
            own, tried = fastest(bench, row, row.ours, expected)
            result["tried_ms"] |= tried
            result["our_best"] = own.title
            prepare(bench, row, own, expected)
        theirs = prepare(bench, row, best, expected)
        ours_s, theirs_s, result["machine"] = rounds_of(bench, row, bench.ours, theirs)
    except (workers.WorkerError, Disagreement) as error:
        return result | {"failed": str(error)}
    finally:
        for worker in bench.all_workers():
            if worker.process.poll() is None:
                worker.ask(do="drop")
        shutil.rmtree(bench.row_folder(row), ignore_errors=True)
    result |= {"ours": side(ours_s), "theirs": side(theirs_s)}
    judge(result, *intervals.ratio_with_interval(ours_s, theirs_s))
    add_rates(row, result)
    return result


def judge(result: dict, ratio: float, low: float | None = None, high: float | None = None) -> None:
    result["ratio"] = ratio
    result["interval"] = None if low is None else [low, high]
    result["met"] = ratio >= result["target"]
    result["short_by"] = table.shortfall(ratio, result["target"])


def median_seconds(bench: Bench, row: table.Row, rounds: int) -> float:
    """onpa's time alone."""
    bench.write_inputs(row)
    try:
        bench.ours.ask(do="prepare", job=bench.job(row, row.ours[-1].variant, row.ours[-1].threads))
        bench.ours.ask(do="check")
        calls = calls_for(seconds_per_call(bench.ours, 1))
        return statistics.median(seconds_per_call(bench.ours, calls) for _ in range(rounds))
    finally:
        bench.ours.ask(do="drop")
        shutil.rmtree(bench.row_folder(row), ignore_errors=True)
