#!/usr/bin/env python3
"""The GPU part of bench/results/README.md: for each CUDA kernel of the contracts the newest run on a GPU.

A kernel is an overload for Cuda in kernels/*.h. Its time and share of the limit come from the benchmark
of its name in bench_cuda_*.json, its errors from its family's tests in cuda_tests.json; what never ran
says "never". Run as a script it rewrites bench/results/README.md.
"""
import importlib.util
import json
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"
OVERLOAD = re.compile(r"^(?:void|bool|int) (\w+)\(Cuda,", re.M)
HEAD = ["## CUDA kernels", "",
        "From `./dev gpu`: the newest run of each kernel on each GPU. Time and share are of the benchmark",
        "named; errors are the largest over the tests of the family, relative to the largest value. A kernel that",
        "no GPU has run yet says never: only the simulator, on a CPU, has run it. The same goes for dist/nccl",
        "(collectives, the ring of `onpa bench comm`, training of several ranks with a GPU each): never.", "",
        "| kernel | family | GPU | commit | tests | error fp32 | error bf16 | benchmark | time | share of limit |",
        "|---|---|---|---|---|---|---|---|---|---|"]


def kernels() -> list[tuple[str, str]]:
    """(name, family) of every CUDA kernel that a contract declares."""
    return [(name, header.stem) for header in sorted((ROOT / "kernels").glob("*.h"))
            for name in OVERLOAD.findall(header.read_text())]


def benchmark_rows() -> dict[str, dict[str, tuple[dict, dict]]]:
    """{kernel: {GPU: (result file, row)}}; the slowest shape in bf16, if any, stands for the kernel."""

    def weight(row: dict) -> tuple[bool, float]:
        return "<float>" not in row["name"], row["median_ms"]

    found: dict[str, dict[str, tuple[dict, dict]]] = {}
    for path in sorted(RESULTS.glob("*/bench_cuda_*.json")):
        data = json.loads(path.read_text())
        for row in data["rows"]:
            kernel = re.split(r"[</]", row["name"])[0]
            best = found.setdefault(kernel, {}).get(data["gpu"])
            if best is None or weight(row) > weight(best[1]):
                found[kernel][data["gpu"]] = (data, row)
    return found


def test_rows() -> dict[str, dict[str, tuple[dict, dict]]]:
    """{family: {GPU: (result file, the family's row)}}"""
    found: dict[str, dict[str, tuple[dict, dict]]] = {}
    for path in sorted(RESULTS.glob("*/cuda_tests.json")):
        data = json.loads(path.read_text())
        for family, row in data["families"].items():
            found.setdefault(family, {})[data["gpu"]] = (data, row)
    return found


def share(row: dict) -> str:
    return ", ".join(f"{100 * v:.0f} % of {k.removeprefix('share_of_').replace('_', ' ')}"
                     for k, v in row["counters"].items() if k.startswith("share_of_"))


def section() -> list[str]:
    benches, tests = benchmark_rows(), test_rows()
    lines = list(HEAD)
    for name, family in kernels():
        gpus = sorted(set(benches.get(name, {})) | set(tests.get(family, {})))
        if not gpus:
            lines.append(f"| {name} | {family} | never | | | | | | | |")
        for gpu in gpus:
            tested, checks = tests.get(family, {}).get(gpu, ({}, {}))
            timed, row = benches.get(name, {}).get(gpu, ({}, {}))
            errors = [f"{checks[key]:.2g}" if key in checks else "" for key in ("error_f32", "error_bf16")]
            passed = f"{checks['tests'] - checks['failed']} of {checks['tests']} passed" if checks else "never"
            commit = " / ".join(dict.fromkeys(d["commit"] for d in (tested, timed) if d))
            time = f"{row['median_ms']:.4g} ms" if row else "never"
            lines.append(f"| {name} | {family} | {gpu} | {commit} | {passed} | {' | '.join(errors)} | "
                         f"{row.get('name', '')} | {time} | {share(row) if row else ''} |")
    lines.append("")
    models = [(f, gpu, *found) for f, by_gpu in sorted(tests.items()) if f.startswith("device_")
              for gpu, found in sorted(by_gpu.items())]
    lines += [f"Whole models ({family}) on {gpu} at {data['commit']}: {row['tests'] - row['failed']} of "
              f"{row['tests']} tests passed." for family, gpu, data, row in models] or ["Whole models on a GPU: never."]
    lines.append("")
    for path in sorted(RESULTS.glob("*/sanitizer.json")):
        data = json.loads(path.read_text())
        said = ", ".join(f"{tool} {result}" for tool, result in data["tools"].items())
        lines += [f"compute-sanitizer on {data['gpu']} at {data['commit']}: {said}.", ""]
    for path in sorted(RESULTS.glob("*/torch.json")):
        data = json.loads(path.read_text())
        lines += [f"PyTorch {data['torch']} on {data['gpu']}:", "", "| operation | PyTorch |", "|---|---|"]
        lines += [f"| {r['name']} | {r['median_ms']:.4g} ms |" for r in data["rows"]] + [""]
    return lines


def main() -> None:
    spec = importlib.util.spec_from_file_location("run", ROOT / "bench" / "run.py")
    run = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(run)
    (RESULTS / "README.md").write_text(run.table())


if __name__ == "__main__":
    main()
