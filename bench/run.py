#!/usr/bin/env python3
"""Runs the benchmarks of a build folder and writes bench/results/<device>/<benchmark>.json.

Each JSON holds what Google Benchmark measured (median of the repetitions) with its limit on this
machine, and where it ran: commit, CPU, threads, compiler. A table of all of it is printed and written
to bench/results/README.md.
"""
import argparse
import datetime
import importlib.util
import json
import os
import pathlib
import platform
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"


def cpu_name() -> str:
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def cpu_flags() -> str:
    text = pathlib.Path("/proc/cpuinfo").read_text()
    flags = set(re.search(r"^flags\s*:(.*)$", text, re.M)[1].split()) if "flags" in text else set()
    return "avx512" if "avx512f" in flags else "avx2" if "avx2" in flags else "sse2"


def device_slug() -> str:
    return re.sub(r"[^a-z0-9]+", "-", f"{cpu_name()} {cpu_flags()} {os.cpu_count()} cores".lower()).strip("-")


def commit() -> str:
    head = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], cwd=ROOT, capture_output=True,
                          text=True).stdout.strip() or "unknown"
    dirty = subprocess.run(["git", "status", "--porcelain", "--", ":!bench/results",
                            ":!README.md"], cwd=ROOT,  # both hold results
                           capture_output=True, text=True).stdout.strip()
    return head + ("-dirty" if dirty else "")


def command_of_ranks(binary: pathlib.Path) -> list[str]:
    """A benchmark of ranks as processes: its rounds are its own."""
    as_root = ["--allow-run-as-root"] if os.geteuid() == 0 else []
    return ["mpirun", *as_root, "--bind-to", "none", "-np", "2", str(binary)]


def run_one(binary: pathlib.Path, repetitions: int, pattern: str) -> dict:
    command = command_of_ranks(binary) if binary.name.startswith("bench_ranks_") else [str(binary), "--benchmark_format=json", f"--benchmark_repetitions={repetitions}",
               "--benchmark_report_aggregates_only=true", f"--benchmark_filter={pattern}",
               "--benchmark_enable_random_interleaving=true"]  # peers alternate in one run
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if done.returncode != 0:
        sys.exit(f"{binary.name} failed ({done.returncode}):\n{done.stderr}")
    return json.loads(done.stdout) if done.stdout.strip() else {"benchmarks": [], "context": {}}


def rows_of(raw: dict) -> list[dict]:
    by_name: dict[str, dict] = {}
    known = {"name", "family_index", "per_family_instance_index", "run_name", "run_type", "repetitions",
             "threads", "aggregate_name", "aggregate_unit", "iterations", "real_time", "cpu_time",
             "time_unit", "repetition_index", "label"}
    to_ms = {"ns": 1e-6, "us": 1e-3, "ms": 1.0, "s": 1e3}
    for entry in raw["benchmarks"]:
        row = by_name.setdefault(entry["run_name"], {"name": entry["run_name"]})
        scale = to_ms[entry["time_unit"]]
        if entry.get("aggregate_name") == "median":
            row["median_ms"] = entry["real_time"] * scale
            row["label"] = entry.get("label", "")
            row["counters"] = {k: v for k, v in entry.items()
                               if k not in known and isinstance(v, (int, float))}
        elif entry.get("aggregate_name") == "stddev":
            row["stddev_ms"] = entry["real_time"] * scale
    return [r for r in by_name.values() if "median_ms" in r]


def format_counter(name: str, value: float) -> str:
    if name.startswith("share"):
        return f"{name} {100 * value:.0f} %"
    return f"{name} {value:.4g}"


def table() -> str:
    lines = ["# Benchmark results", "",
             "Written by `./dev bench`, `./dev bench --vs-torch` and `./dev gpu`. Times are medians; `share` is the part of",
             "the limit that was measured on the same machine in the same run.", ""]
    lines += load(ROOT / "bench" / "vs_torch" / "report.py").section(RESULTS)
    lines += load(ROOT / "tools" / "gpu_table.py").section()
    for folder in sorted(p for p in RESULTS.iterdir() if p.is_dir()):
        lines += [f"## {folder.name}", "", "| benchmark | median | what | commit |", "|---|---|---|---|"]
        for path in sorted(folder.glob("bench_*.json")):
            data = json.loads(path.read_text())
            for row in sorted(data["rows"], key=lambda r: r["name"]):
                what = ", ".join(format_counter(k, v) for k, v in sorted(row["counters"].items()))
                lines.append(f"| {row['name']} | {row['median_ms']:.4g} ms | {what} | {data['commit']} |")
        lines.append("")
    return "\n".join(lines)


def load(path: pathlib.Path):
    """A module that is no package's."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default="build")
    parser.add_argument("--only", default="", help="run the benchmark binaries whose name contains this")
    parser.add_argument("--filter", default=".", help="Google Benchmark's regular expression")
    parser.add_argument("--repetitions", type=int, default=5)
    args = parser.parse_args()
    binaries = sorted(p for p in pathlib.Path(args.build).glob("bench_*") if os.access(p, os.X_OK) and p.is_file())
    binaries = [b for b in binaries if args.only in b.name and not b.name.startswith("bench_cuda_")]
    if not binaries:
        sys.exit(f"no benchmark binaries in {args.build} match '{args.only}'")
    out = RESULTS / device_slug()
    out.mkdir(parents=True, exist_ok=True)
    for binary in binaries:
        print(f"running {binary.name} ...", file=sys.stderr, flush=True)
        raw = run_one(binary.resolve(), args.repetitions, args.filter)
        result = {
            "benchmark": binary.name, "commit": commit(), "cpu": cpu_name(), "simd": cpu_flags(),
            "cores": os.cpu_count(), "threads": os.environ.get("ONPA_THREADS", str(os.cpu_count())),
            "compiler": subprocess.run(["g++", "-dumpfullversion"], capture_output=True, text=True).stdout.strip(),
            "date": datetime.date.today().isoformat(), "repetitions": args.repetitions,
            "rows": rows_of(raw),
        }
        (out / f"{binary.name}.json").write_text(json.dumps(result, indent=1) + "\n")
        for row in result["rows"]:
            what = ", ".join(format_counter(k, v) for k, v in sorted(row["counters"].items()))
            print(f"{row['name']:50s} {row['median_ms']:12.4g} ms   {what}", flush=True)
    (RESULTS / "README.md").write_text(table())
    return 0


if __name__ == "__main__":
    sys.exit(main())
