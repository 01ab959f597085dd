#!/usr/bin/env python3
"""Runs fuzz targets with libFuzzer: `./dev fuzz`.

usage: run.py --build FOLDER [--seconds N] [--jobs N] [--keep] [TARGET ...]

Each target starts from tests/fuzz/corpus/TARGET and what earlier runs left in FOLDER/corpus/TARGET, and runs for N
seconds of CPU time (600). --keep then takes some of the inputs that together cover the same code into
tests/fuzz/corpus, as far as they are small. Ends with 1 if a target found something; its input is in FOLDER/found.
"""
import argparse
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SEEDS = Path(__file__).resolve().parent / "corpus"
TARGETS = ("audio", "card", "config", "csv", "manifest", "pickle", "safetensors", "torch_file")
LONGEST = {"audio": 65536, "torch_file": 32768}  # bytes of an input; 8192 of the others
MOST_KEPT_BYTES, MOST_KEPT_FILE = 100_000, 8192  # of a target's corpus in the tree, of one file in it
MOST_KEPT = 40  # files of a target, its seeds included


def end_of(process) -> tuple:
    """Its exit code and seconds of CPU time."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage.ru_utime + usage.ru_stime


def fuzz(build: Path, name: str, seconds: int) -> dict:
    corpus, found = build / "corpus" / name, build / "found"
    corpus.mkdir(parents=True, exist_ok=True)
    found.mkdir(exist_ok=True)
    words = [build / f"fuzz_{name}", corpus, SEEDS / name, f"-artifact_prefix={found}/{name}-", "-timeout=60",
             "-rss_limit_mb=1024", "-malloc_limit_mb=512", "-print_final_stats=1",
             f"-max_len={LONGEST.get(name, 8192)}"]
    used, runs, coverage, text = 0.0, 0, 0, ""
    # libFuzzer's limit is by the clock; a machine that is shared gives less.
    while used < seconds:
        process = subprocess.Popen([*map(str, words), f"-max_total_time={max(1, int(seconds - used))}"],
                                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        text = process.stderr.read()
        status, usage = end_of(process)
        used += usage
        runs += int((re.findall(r"stat::number_of_executed_units: (\d+)", text) or [0])[-1])
        coverage = max([coverage, *map(int, re.findall(r"cov: (\d+)", text))])
        if status != 0:
            break
    return {"name": name, "status": status, "cpu_seconds": used, "runs": runs, "coverage": coverage, "text": text}


def keep(build: Path, name: str) -> int:
    """Of the inputs that together cover what all do, some of every size that fit stay in the tree."""
    merged = build / "merged" / name
    shutil.rmtree(merged, ignore_errors=True)
    merged.mkdir(parents=True)
    subprocess.run([build / f"fuzz_{name}", "-merge=1", "-timeout=60", "-rss_limit_mb=1024", merged, SEEDS / name,
                    build / "corpus" / name], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    have = {p.read_bytes() for p in (SEEDS / name).iterdir()}
    room = MOST_KEPT_BYTES - sum(map(len, have))
    found = [p for p in sorted(merged.iterdir(), key=lambda p: p.stat().st_size)
             if p.stat().st_size <= MOST_KEPT_FILE and p.read_bytes() not in have]
    taken = 0
    for path in found[:: max(1, -(-len(found) // max(1, MOST_KEPT - len(have))))]:
        data = path.read_bytes()
        if len(have) + taken == MOST_KEPT or len(data) > room:
            continue
        (SEEDS / name / path.name[:12]).write_bytes(data)
        room -= len(data)
        taken += 1
    return taken


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=Path, required=True)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("targets", nargs="*", choices=[*TARGETS, []], default=[])
    args = parser.parse_args()
    failed = []
    with ThreadPoolExecutor(args.jobs) as pool:
        for result in pool.map(lambda name: fuzz(args.build, name, args.seconds), args.targets or TARGETS):
            good = result["status"] == 0
            print(f"{'ok' if good else 'FOUND':6} {result['name']}: {result['runs']} inputs in {result['cpu_seconds']:.0f} s of CPU, "
                  f"coverage {result['coverage']}", flush=True)
            if not good:
                failed.append(result["name"])
                print(result["text"][-4000:], flush=True)
            elif args.keep:
                print(f"       {keep(args.build, result['name'])} inputs kept", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
