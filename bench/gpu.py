#!/usr/bin/env python3
"""Runs everything that wants an NVIDIA GPU and writes JSON to OUT/<device>/.

The GPU tests, compute-sanitizer over them where it is installed, the kernel benchmarks with the limits
measured in the same run, and the same operations in PyTorch where a Python with torch is there
(ONPA_PYTHON names it). Needs nothing but Python's standard library. Exits 84 without a usable GPU,
1 if a test or a sanitizer finds something.
"""
import argparse
import datetime
import glob
import importlib.util
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
NO_DEVICE = 84
SANITIZERS = ("memcheck", "racecheck", "initcheck", "synccheck")


def environment(bin_folder: pathlib.Path) -> dict[str, str]:
    """Lets the programs find the pack's libraries and, where the system has them elsewhere, cuBLASLt and cuFFT."""
    folders = [str(bin_folder.parent / "lib")]
    homes = [os.environ.get("ONPA_CUDA_HOME"), os.environ.get("CUDA_HOME"), "/usr/local/cuda"]
    candidates = [f"{home}/lib64" for home in homes if home]
    pattern = "lib/python3*/site-packages/nvidia/*/lib"
    for python in filter(None, {shutil.which("python3"), os.environ.get("ONPA_PYTHON"), sys.executable}):
        for prefix in {pathlib.Path(python).parent.parent, pathlib.Path(python).resolve().parent.parent}:
            candidates += sorted(glob.glob(str(prefix / pattern)))
    for library in ("libcublasLt.so.13", "libcufft.so.12"):
        if not any(glob.glob(f"{folder}/{library}") for folder in folders):
            folders += [c for c in candidates if glob.glob(f"{c}/{library}")][:1]
    before = [p for p in [os.environ.get("LD_LIBRARY_PATH")] if p]
    env = {**os.environ, "LD_LIBRARY_PATH": ":".join(folders + before)}
    # The system's own C++ library serves best, if it is there and new enough.
    tried = subprocess.run([str(bin_folder / "bench_cuda_roofline"), "--help"], env=env, capture_output=True, text=True)
    if re.search(r"libstdc\+\+|GLIBCXX|libgcc_s", tried.stderr):
        env["LD_LIBRARY_PATH"] += f":{folders[0]}/compiler"
    return env


def slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def load_run_module():
    spec = importlib.util.spec_from_file_location("run", HERE / "run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def bench(binary: pathlib.Path, env: dict[str, str], repetitions: int) -> dict:
    done = subprocess.run([str(binary), "--benchmark_format=json", f"--benchmark_repetitions={repetitions}",
                           "--benchmark_report_aggregates_only=true"], env=env, capture_output=True, text=True)
    if done.returncode == NO_DEVICE:
        print(done.stderr.strip(), file=sys.stderr)
        sys.exit(NO_DEVICE)
    if done.returncode != 0:
        missing = re.search(r"(libcublasLt\S*): cannot open", done.stderr)
        if missing:
            print(f"{missing[1]} was not found; set ONPA_CUDA_HOME to a CUDA 13 toolkit", file=sys.stderr)
            sys.exit(NO_DEVICE)
        print(f"{binary.name} failed ({done.returncode}):\n{done.stderr}", file=sys.stderr)
        return {}
    return json.loads(done.stdout)


def summarize_tests(report: dict) -> dict[str, dict]:
    families: dict[str, dict] = {}
    for suite in report["testsuites"]:
        for test in suite["testsuite"]:
            family = pathlib.PurePath(test.get("file", "unknown")).name.removesuffix("_test.cpp")
            row = families.setdefault(family, {"tests": 0, "failed": 0})
            row["tests"] += 1
            row["failed"] += bool(test.get("failures"))
            for key in ("error_f32", "error_bf16"):
                if key in test:
                    row[key] = max(row.get(key, 0.0), float(test[key]))
    return families


def run_tests(binary: pathlib.Path, env: dict[str, str], out: pathlib.Path) -> dict[str, dict]:
    report = out / "cuda_tests_raw.json"
    subprocess.run([str(binary), "--gtest_brief=1", f"--gtest_output=json:{report}"], env=env)
    families = summarize_tests(json.loads(report.read_text())) if report.exists() else {}
    report.unlink(missing_ok=True)
    return families


def run_sanitizers(binary: pathlib.Path, env: dict[str, str], limit_s: int) -> dict[str, str]:
    tool = shutil.which("compute-sanitizer") or next(iter(glob.glob("/usr/local/cuda/bin/compute-sanitizer")), None)
    if not tool:
        print("compute-sanitizer is not installed: left out", file=sys.stderr)
        return {}
    said = {}
    for name in SANITIZERS:
        print(f"compute-sanitizer {name} ...", file=sys.stderr, flush=True)
        try:
            done = subprocess.run([tool, "--tool", name, "--error-exitcode", "99", "--print-limit", "20",
                                   str(binary), "--gtest_brief=1"], env=env, capture_output=True, text=True,
                                  timeout=limit_s)
            said[name] = {0: "clean", 99: "found errors"}.get(done.returncode, f"exit {done.returncode}")
            if done.returncode != 0:
                print(done.stdout[-6000:] + done.stderr[-2000:], file=sys.stderr)
        except subprocess.TimeoutExpired:
            said[name] = f"not done after {limit_s} s"
    return said


def run_torch(env: dict[str, str]) -> dict | None:
    for python in filter(None, [os.environ.get("ONPA_PYTHON"), shutil.which("python3")]):
        # PyTorch brings CUDA libraries of its own: it gets the caller's environment.
        if subprocess.run([python, "-c", "import torch; assert torch.cuda.is_available()"],
                          capture_output=True).returncode == 0:
            print("timing the same in PyTorch ...", file=sys.stderr, flush=True)
            # What it leaves out it says on stderr.
            done = subprocess.run([python, str(HERE / "compare_torch.py")], stdout=subprocess.PIPE, text=True)
            if done.returncode == 0:
                return json.loads(done.stdout)
            print("compare_torch.py failed", file=sys.stderr)
    print("no Python with a working torch: the comparison is left out", file=sys.stderr)
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bin", type=pathlib.Path, required=True, help="folder of test_*_gpu and bench_cuda_*")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--commit", required=True, help="what the programs were built from")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--sanitizer-limit-s", type=int, default=900, help="for each tool; 0: none runs")
    args = parser.parse_args()
    env = environment(args.bin.resolve())
    run = load_run_module()

    first = bench(args.bin / "bench_cuda_roofline", env, args.repetitions)
    if not first:
        return 1
    gpu = first["context"]["gpu"]
    out = args.out / slug(gpu)
    out.mkdir(parents=True, exist_ok=True)
    about = {"gpu": gpu, "commit": args.commit, "date": datetime.date.today().isoformat()}

    def save(name: str, content: dict) -> None:
        (out / f"{name}.json").write_text(json.dumps({**about, **content}, indent=1) + "\n")

    families = {}
    ok = True
    for binary in sorted(args.bin.glob("test_*_gpu")):
        tested = run_tests(binary, env, out)
        ok = ok and bool(tested) and not any(row["failed"] for row in tested.values())
        families.update(tested)
    save("cuda_tests", {"families": families})
    for binary in sorted(args.bin.glob("bench_cuda_*")):
        print(f"running {binary.name} ...", file=sys.stderr, flush=True)
        raw = first if binary.name == "bench_cuda_roofline" else bench(binary, env, args.repetitions)
        if not raw:
            ok = False
            continue
        limits = {k: raw["context"][k] for k in ("copy_gigabytes_per_second", "bf16_tflops")}
        rows = run.rows_of(raw)
        save(binary.name, {"benchmark": binary.name, "limits": limits, "rows": rows})
        for row in rows:
            what = ", ".join(run.format_counter(k, v) for k, v in sorted(row["counters"].items()))
            print(f"{row['name']:60s} {row['median_ms']:10.4g} ms   {what}", flush=True)
    if (torch := run_torch(env)) is not None:
        save("torch", torch)
    if args.sanitizer_limit_s > 0 and (said := run_sanitizers(args.bin / "test_cuda_gpu", env, args.sanitizer_limit_s)):
        save("sanitizer", {"tools": said})
        ok = ok and all(result == "clean" for result in said.values())
    print(f"results are in {out}")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
