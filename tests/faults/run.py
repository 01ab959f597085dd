#!/usr/bin/env python3
"""Runs the tests of faults: all of a group, in the fast subset or with --all exhaustively.

usage: run.py --onpa PATH --tool PATH [--shim PATH] [--mpirun PATH] [--sim PATH] [--all] [--group NAME] [--only REGEX]
              [--results FILE] [--jobs N] [--list]
--results adds what ran to a JSON file, from which table.py makes docs/faults.md.
"""
import argparse
import fcntl
import importlib
import json
import random
import re
import shutil
import sys
import tempfile
import time
import traceback
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from harness import REGISTRY, Failed, Skipped, Test, Tools, quick_parent  # noqa: E402

GROUPS = ("checkpoints", "power_loss", "signals", "crashes", "decoders", "limits", "values", "tracks", "settings",
          "surroundings", "resume", "ranks", "gpu")


def load_groups() -> None:
    for group in GROUPS:
        importlib.import_module(group)


def available(tools: Tools) -> set:
    return {need for need in ("shim", "mpirun", "faketime", "sim") if getattr(tools, need)}


def run_one(name: str, tools: Tools, exhaustive: bool, seed: int) -> dict:
    load_groups()
    test = next(t for t in REGISTRY if t.name == name)
    begin = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="onpa-faults-", dir=quick_parent()))
    run = Test(tools, exhaustive, folder, random.Random(f"{name} {seed}"))
    status, why = "ok", ""
    try:
        test.body(run)
    except Skipped as reason:
        status, why = "skipped", str(reason)
    except Failed as reason:
        status, why = "FAILED", str(reason)
    except Exception:
        status, why = "FAILED", traceback.format_exc()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return {"name": name, "status": status, "why": why, "tries": run.tries, "seconds": time.monotonic() - begin}


def record(file: str, exhaustive: bool, results: list[dict]) -> None:
    column = "exhaustive" if exhaustive else "fast"
    with open(file, "a+") as out:
        fcntl.flock(out, fcntl.LOCK_EX)
        out.seek(0)
        text = out.read()
        table = json.loads(text) if text else {}
        for result in results:
            if result["status"] == "ok":
                table.setdefault(result["name"], {})[column] = result["tries"]
        out.truncate(0)
        out.write(json.dumps(table, indent=1, sort_keys=True) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--onpa", required=True)
    parser.add_argument("--tool", default="")
    parser.add_argument("--shim", default="")
    parser.add_argument("--mpirun", default="")
    parser.add_argument("--sim", default="")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--group", default="")
    parser.add_argument("--only", default="")
    parser.add_argument("--results", default="")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--list", action="store_true")
    args = parser.parse_args()
    load_groups()
    faketime = next(map(str, Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), "")
    tools = Tools(args.onpa, args.tool, args.shim, args.mpirun, faketime if args.shim else "", args.sim)
    chosen = [t for t in REGISTRY if (not args.group or t.group == args.group) and re.search(args.only, t.name)
              and (args.all or t.fast)]
    if args.list:
        for test in chosen:
            print(f"{test.name}: {test.title}: {test.outcome} [{test.code}]")
        return 0
    have = available(tools)
    results, names = [], []
    for test in chosen:
        missing = [need for need in test.needs if need not in have]
        if missing:
            results.append({"name": test.name, "status": "skipped", "why": f"needs {', '.join(missing)}",
                            "tries": 0, "seconds": 0})
        else:
            names.append(test.name)
    with ProcessPoolExecutor(args.jobs) as pool:
        for result in pool.map(run_one, names, *zip(*[(tools, args.all, args.seed)] * len(names))):
            results.append(result)
            if args.results:
                record(args.results, args.all, [result])
            print(f"{result['status']:8} {result['name']}: {result['tries']} tries, {result['seconds']:.1f} s", flush=True)
            if result["why"]:
                print("    " + result["why"].replace("\n", "\n    "), flush=True)
    failed = [r["name"] for r in results if r["status"] == "FAILED"]
    tries = sum(r["tries"] for r in results)
    print(f"{len(results)} tests, {tries} faults, {len(failed)} failed" + (": " + ", ".join(failed) if failed else ""))
    return 1 if failed or not results else 0


if __name__ == "__main__":
    sys.exit(main())
