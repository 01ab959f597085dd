"""Rows that are no work of a running worker: peak memory, start-up, build time, size on disk."""
import dataclasses
import os
import pathlib
import shutil
import subprocess
import tempfile
import time

import intervals
import measure
import rows as table
import workers

BUILD_ROUNDS = 3
MIB = 1 << 20
# Parts of the C library's own package, and of a CUDA build of PyTorch.
C_LIBRARY = ("libc.", "libm.", "libdl.", "librt.", "libpthread.", "ld-linux")
CUDA_PARTS = ("cuda", "nvrtc", "nvshmem")


def result_of(name: str, unit: str, note: str, best: str, target: float, ours: list, theirs: list) -> dict:
    result = {"name": name, "note": note, "unit": unit, "target": target, "best": best, "also": [],
              "ours": measure.side(ours, 1), "theirs": measure.side(theirs, 1), "machine": workers.machine_state()}
    if len(ours) > 1:
        measure.judge(result, *intervals.ratio_with_interval(ours, theirs))
    else:
        measure.judge(result, theirs[0] / ours[0])
    return result


def peak_mib(start, job: dict) -> float:
    """What a fresh process adds to what it has once its libraries are loaded, in its second step."""
    worker = start()
    try:
        worker.ask(do="drop")
        baseline = worker.memory_mib("VmRSS")
        worker.ask(do="prepare", job=job)
        worker.ask(do="run", calls=1)
        worker.forget_peak_memory()
        worker.ask(do="run", calls=1)
        return worker.memory_mib("VmHWM") - baseline
    finally:
        worker.close()


def recompute_row(row: table.Row) -> table.Row:
    """The same step where both sides keep the blocks' inputs only."""
    ours, theirs = row.recompute
    return dataclasses.replace(row, name=f"{row.name}/recompute", ours=[ours], peers=[theirs])


def memory_row(bench: measure.Bench, row: table.Row, starters: dict) -> dict:
    """`starters` make fresh workers by name."""
    name = f"peak_memory/{row.name}"
    tried = {}
    try:
        bench.write_inputs(row)
        # Weights, gradients and two moments; the inputs' file is little but the weights.
        state = 4 * (bench.row_folder(row) / "inputs.safetensors").stat().st_size / MIB
        own = {p.title: peak_mib(starters["onpa"], bench.job(row, p.variant, p.threads)) for p in row.ours}
        for peer in row.peers:
            if peer.worker in starters:
                tried[peer.title] = peak_mib(starters[peer.worker], bench.job(row, peer.variant, peer.threads))
    except workers.WorkerError as error:
        return {"name": name, "failed": str(error), "target": row.memory}
    finally:
        shutil.rmtree(bench.row_folder(row), ignore_errors=True)
    best, our_best = min(tried, key=tried.get), min(own, key=own.get)
    ours = own[our_best]
    note = "resident memory beyond the loaded libraries: weights, gradients, moments and activations"
    result = result_of(name, "MiB", note, best, row.memory, [ours], [tried[best]])
    result |= {"our_best": our_best, "tried_mib": own | tried}
    if row.kind == "passt_train" and ours > state:
        activations = (tried[best] - state) / (ours - state)
        result |= {"state_mib": state, "also": [
            {"what": "x without weights, gradients and moments", "value": activations, "want": row.memory,
             "met": activations >= row.memory}]}
    return result


def wall_ms(command: list[str], environment: dict | None = None, cwd: pathlib.Path | None = None) -> float:
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, env=os.environ | (environment or {}), cwd=cwd)
    took = time.perf_counter() - start
    if done.returncode != 0:
        raise workers.WorkerError(f"{command[0]} ended with status {done.returncode}: {done.stderr[-400:]!r}")
    return 1e3 * took


def alternate(commands: dict[str, list], rounds: int, run) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            times[name].append(run(command))
    return times


def fastest_of(times: dict[str, list[float]]) -> str:
    return min((n for n in times if n != "onpa"), key=lambda n: sorted(times[n])[len(times[n]) // 2])


def startup_row(build: pathlib.Path, python: pathlib.Path, rounds: int) -> dict:
    commands = {"onpa": [str(build / "onpa"), "--help"], "Python import torch": [str(python), "-c", "import torch"]}
    if (build / "libtorch" / "libtorch_hello").exists():
        commands["C++ hello"] = [str(build / "libtorch" / "libtorch_hello")]
    for command in commands.values():
        wall_ms(command)
    times = alternate(commands, max(rounds, 5), wall_ms)
    best = fastest_of(times)
    return result_of("startup", "ms", "onpa --help against a LibTorch program that makes one tensor, and import torch",
                     best, 1.0, times["onpa"], times[best])


def commands_of(build: pathlib.Path, target: str) -> list[str]:
    """The compile and link commands of a program of one source, as the build runs them."""
    listed = subprocess.run(["ninja", "-C", str(build), "-t", "commands", target], capture_output=True, text=True)
    lines = [line for line in listed.stdout.splitlines() if "small_program" in line]
    if listed.returncode != 0 or len(lines) != 2:
        raise workers.WorkerError(f"{build}: want two commands of {target}, got {len(lines)}")
    return lines


def build_row(build: pathlib.Path) -> dict:
    """Compiler and linker of both programs, without ccache."""
    folders = {"onpa": (build, "onpa_small_program"), "LibTorch": (build / "libtorch", "libtorch_small_program")}
    commands = {name: (folder, commands_of(folder, target)) for name, (folder, target) in folders.items()}

    def run(job) -> float:
        folder, lines = job
        return 1e-3 * sum(wall_ms(["sh", "-c", line], {"CCACHE_DISABLE": "1"}, folder) for line in lines)

    times = alternate(commands, BUILD_ROUNDS, run)
    for folder, target in folders.values():
        wall_ms([str(folder / target)])
    return result_of("build_small_program", "s", "compile and link a program that trains a small network, -O2",
                     "LibTorch", 10.0, times["onpa"], times["LibTorch"])


def shared_libraries(program: pathlib.Path) -> list[pathlib.Path]:
    listed = subprocess.run(["ldd", str(program)], capture_output=True, text=True).stdout.splitlines()
    paths = {pathlib.Path(line.split()[2]).resolve() for line in listed if "=> /" in line}
    return sorted(p for p in paths if not p.name.startswith(C_LIBRARY))


def stripped_bytes(path: pathlib.Path, folder: str) -> int:
    out = pathlib.Path(folder) / path.name
    subprocess.run(["strip", "--strip-debug" if path.suffix == ".a" else "--strip-all", "-o", str(out), str(path)],
                   check=True)
    return out.stat().st_size


def size_row(build: pathlib.Path, torch: pathlib.Path) -> dict:
    static = sorted(p for p in build.glob("libonpa_*.a") if not any(w in p.name for w in ("cuda", "roofline")))
    with tempfile.TemporaryDirectory() as folder:
        own = sum(stripped_bytes(p, folder) for p in [build / "onpa", *static]) / MIB
    shared = sum(p.stat().st_size for p in shared_libraries(build / "onpa")) / MIB
    parts = [p for p in (torch / "lib").glob("*.so*") if p.is_file() and not p.is_symlink()
             and not any(w in p.name for w in CUDA_PARTS) and "python" not in p.name]
    theirs = sum(p.stat().st_size for p in parts) / MIB
    result = result_of("size_on_disk", "MiB", "command, static libraries (stripped) and every shared library that the "
                       "command needs beyond the C library, against the wheel's C++ libraries without CUDA's",
                       "LibTorch", 1.0, [own + shared], [theirs])
    result["also"] = [{"what": "MiB for the command and the libraries of onpa", "value": own, "want": 50,
                       "met": own < 50}]
    return result
