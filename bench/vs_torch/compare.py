#!/usr/bin/env python3
"""Times onpa and the newest PyTorch beside each other on this machine's CPU (./dev bench --vs-torch).

Results go to bench/results/<device>/vs_torch.json, after each row, and to the tables of bench/results/README.md and
README.md. Ends with 1
if a row failed (results that disagree, a peer that broke), 69 if there is no PyTorch.
"""
import argparse
import datetime
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile

FOLDER = pathlib.Path(__file__).resolve().parent
ROOT = FOLDER.parent.parent
sys.path[:0] = [str(FOLDER), str(FOLDER.parent)]

import growth  # noqa: E402
import measure  # noqa: E402
import once  # noqa: E402
import report  # noqa: E402
import rows as table  # noqa: E402
import run as benchmarks  # noqa: E402  (bench/run.py: device name, commit, the results' README)
import workers  # noqa: E402

EXIT_FAILED, EXIT_NOT_BUILT, EXIT_NO_TORCH = 1, 66, 69
COPY_FLOATS = 64 << 20
# PyTorch takes memory from malloc: kept blocks spare it the page faults of each step. Large tensors in huge
# pages, as onpa has them. Its compiler's results are kept between runs.
PEER_SETTINGS = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "-1", "MALLOC_ARENA_MAX": "1",
                 "THP_MEM_ALLOC_ENABLE": "1"}
MEMORY_SETTINGS: dict[str, str] = {}  # its default takes least


def venv() -> pathlib.Path:
    data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return pathlib.Path(os.environ.get("ONPA_TORCH_VENV") or os.path.join(data, "onpa", "torch"))


def torch_folder() -> pathlib.Path | None:
    """The torch package of the virtual environment, or None without a usable one."""
    if not os.access(venv() / "bin" / "python", os.X_OK):
        return None
    return next(iter(sorted(venv().glob("lib/python3*/site-packages/torch/lib/libtorch_cpu.so"))), None)


def need_torch() -> pathlib.Path:
    found = torch_folder()
    if found is None:
        print(f"bench: no PyTorch in {venv()}: run './dev setup torch', or name a virtual environment that has it in "
              "ONPA_TORCH_VENV", file=sys.stderr)
        sys.exit(EXIT_NO_TORCH)
    return found.parent.parent


def starters(build: pathlib.Path, settings: dict[str, str], log: pathlib.Path) -> dict:
    """Functions that start a worker, by name."""
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "onpa" / "inductor"
    peer = settings | {"TORCHINDUCTOR_CACHE_DIR": str(cache), "PYTHONDONTWRITEBYTECODE": "1"}
    commands = {"onpa": ([str(build / "onpa_rows")], {}),
                "libtorch": ([str(build / "libtorch" / "libtorch_rows")], peer),
                "python": ([str(venv() / "bin" / "python"), str(FOLDER / "torch_worker.py")], peer)}
    return {name: (lambda n=name, c=command, e=environment: workers.Worker(n, c, e, log))
            for name, (command, environment) in commands.items() if os.access(command[0], os.X_OK)}


def measure_limits(ours, python, threads: int, folder: pathlib.Path) -> dict:
    """What the machine can do, by both sides' own means."""
    limits = ours.ask(do="limits", threads=threads, copy=True)
    job = {"kind": "copy", "variant": "", "args": {"count": COPY_FLOATS}, "threads": threads, "folder": str(folder)}
    ours.ask(do="inputs", job=job | {"kind": "adamw"})  # a file without tensors
    python.ask(do="prepare", job=job)
    seconds = min(python.ask(do="run", calls=1)["seconds"] for _ in range(6))
    python.ask(do="drop")
    return limits | {"torch_copy_gbytes": 8e-9 * COPY_FLOATS / seconds}


class Results:
    """The JSON of this machine: rows of this run replace those of the same name."""

    def __init__(self, path: pathlib.Path, order: list[str]):
        self.path, self.order = path, order
        self.data = json.loads(path.read_text()) if path.exists() else {"rows": []}

    def update(self, **fields) -> None:
        self.data |= fields

    def add(self, row: dict) -> None:
        row |= {"commit": benchmarks.commit(), "date": datetime.date.today().isoformat()}
        kept = [r for r in self.data["rows"] if r["name"] != row["name"]] + [row]
        rank = {name: i for i, name in enumerate(self.order)}
        self.data["rows"] = sorted(kept, key=lambda r: rank.get(r["name"], len(rank)))
        self.save()

    def save(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps(self.data, indent=1) + "\n")
        part.replace(self.path)


def plan(args, bench: measure.Bench, build: pathlib.Path, torch: pathlib.Path, log: pathlib.Path) -> dict:
    """Name and function of every row, in order."""
    out = {}
    memory_starters = starters(build, MEMORY_SETTINGS, log)
    for row in table.all_rows(args.small):
        out[row.name] = lambda r=row: measure.run_row(bench, r)
    for row in table.all_rows(args.small):
        for each in [row] * bool(row.memory) + ([once.recompute_row(row)] if row.recompute else []):
            out[f"peak_memory/{each.name}"] = lambda r=each: once.memory_row(bench, r, memory_starters)
    out["startup"] = lambda: once.startup_row(build, venv() / "bin" / "python", bench.rounds)
    out["build_small_program"] = lambda: once.build_row(build)
    out["size_on_disk"] = lambda: once.size_row(build, torch)
    return out


def run_rows(planned: dict, pattern: str, results: Results, peers: list) -> list[str]:
    """Runs what matches until one of `peers` has ended; returns the names of failed rows."""
    failed = []
    for name, work in planned.items():
        if not re.search(pattern, name):
            continue
        try:
            row = work()
        except workers.WorkerError as error:
            row = {"name": name, "target": 1.0, "failed": str(error)}
        results.add(row)
        print(report.line(row), flush=True)
        if "failed" in row:
            failed.append(name)
        if any(peer.process.poll() is not None for peer in peers):
            print("bench: a worker has ended; the rows after this one were not run", file=sys.stderr)
            break
    return failed


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./dev bench --vs-torch", description=__doc__.splitlines()[0])
    parser.add_argument("--rows", default=".", metavar="REGEX", help="only rows whose name matches")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--growth", action="store_true", help="only how onpa's costs grow")
    parser.add_argument("--small", action="store_true", help="tiny sizes, to try the harness out; no results are kept")
    parser.add_argument("--build", default="build", help=argparse.SUPPRESS)
    parser.add_argument("--torch-folder", action="store_true", help="print where PyTorch is, and end")
    return parser.parse_args()


def compare(args, torch: pathlib.Path, scratch: pathlib.Path) -> int:
    build, log = pathlib.Path(args.build).resolve(), scratch / "workers.log"
    if not (build / "onpa_rows").exists():
        print(f"bench: {build}/onpa_rows is missing; './dev bench --vs-torch' builds it", file=sys.stderr)
        return EXIT_NOT_BUILT
    running = {name: start() for name, start in starters(build, PEER_SETTINGS, log).items()}
    ours = running.pop("onpa")
    threads = len(os.sched_getaffinity(0))
    bench = measure.Bench(ours, running, scratch, args.rounds, threads)
    limits = measure_limits(ours, running["python"], threads, scratch)
    planned = plan(args, bench, build, torch, log)
    folder = scratch if args.small else benchmarks.RESULTS / benchmarks.device_slug()
    results = Results(folder / report.FILE, list(planned))
    results.update(cpu=benchmarks.cpu_name(), simd=benchmarks.cpu_flags(), cores=os.cpu_count(), threads=threads,
                   versions=running["python"].ask(do="versions"), limits=limits,
                   settings={"rounds": args.rounds, "pytorch_environment": PEER_SETTINGS, "denormals": "flushed by all",
                             "waiting": "OpenMP's default: short spin, then sleep"})
    try:
        if args.growth:
            results.update(growth=growth.run(bench, args.small) | {"commit": benchmarks.commit()})
            results.save()
            print("\n".join(report.growth_lines(results.data["growth"])))
            failed = []
        else:
            print("\n".join(report.HEAD), flush=True)
            failed = run_rows(planned, args.rows, results, bench.all_workers())
    finally:
        for worker in bench.all_workers():
            worker.close()
    if not args.small:
        (benchmarks.RESULTS / "README.md").write_text(benchmarks.table())
        (ROOT / "README.md").write_text(report.with_table((ROOT / "README.md").read_text(), ROOT))
    if failed:
        sys.stderr.write(log.read_text()[-4000:])
        print(f"bench: failed: {', '.join(failed)}", file=sys.stderr)
    return EXIT_FAILED if failed else 0


def main() -> int:
    args = arguments()
    torch = need_torch()
    if args.torch_folder:
        print(torch)
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that the folder goes too
    with tempfile.TemporaryDirectory(prefix="onpa-vs-torch-") as scratch:
        return compare(args, torch, pathlib.Path(scratch))


if __name__ == "__main__":
    sys.exit(main())
