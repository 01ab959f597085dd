#!/usr/bin/env python3
"""Processes that are told by their environment which rank they are, and meet over TCP.

usage: tcp_jobs.py TEST_DIST_RANKS COUNT|ends|meeting, TEST_DIST_GPU_RANKS COUNT|gpu_ends|gpus
COUNT: the tests of the program on as many ranks. ends: rank 1 of three does something else than the
others, who wait for it. meeting: ranks that do not come, or that should not. gpus: a rank for each
of this machine's GPUs.
"""
import os
import shutil
import socket
import subprocess
import sys

LIMIT_S = 60


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def environment(**more) -> dict:
    kept = {k: v for k, v in os.environ.items()
            if not k.startswith(("OMPI_", "PMIX_", "SLURM_")) and k not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    return kept | {k: str(v) for k, v in more.items()}


def job(program: str, ranks: list[tuple[int, int]], *args: str, **more) -> list[tuple[int, str]]:
    """Exit code and output of each process; a process is (rank, number of ranks that it expects)."""
    port = free_port()
    started = [
        subprocess.Popen([program, *args], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                         env=environment(RANK=rank, WORLD_SIZE=size, LOCAL_RANK=rank, MASTER_ADDR="127.0.0.1",
                                         MASTER_PORT=port, **more))
        for rank, size in ranks]
    try:
        return [(p.wait(LIMIT_S), p.stdout.read().replace(str(port), "PORT")) for p in started]
    finally:
        for p in started:
            p.kill()
            p.stdout.close()
            p.wait()


def check(name: str, results, codes: list[int], words: dict[int, str]) -> int:
    """Whether the processes ended with `codes` and process i said words[i]."""
    ok = [code for code, _ in results] == codes and all(w in results[i][1] for i, w in words.items())
    print(f"{name}: exit codes {[code for code, _ in results]}, want {codes}")
    if not ok:
        for i, (_, text) in enumerate(results):
            print(f"--- process {i}, want {words.get(i, '')!r}\n{text}")
    return 0 if ok else 1


def ends(program: str) -> int:
    disagree = ("rank 0 calls call 0, all_reduce (sum) of 500 f32; "
                "rank 2 call 0, all_reduce (sum) of 501 f32")
    said = "barrier: rank 1 has ended the job with exit code "
    lost = "barrier: rank 1 is lost: its process or host is gone"
    ways = {
        "throw": ([65] * 3, {0: said + "65", 1: "rank 1 says: row 7 is empty", 2: said + "65"}),
        "abort": ([17] * 3, {0: said + "17", 2: said + "17"}),
        "abort300": ([70] * 3, {0: said + "70", 2: said + "70"}),
        "exit0": ([75, 0, 75], {0: lost, 2: lost}),
        "kill": ([75, -9, 75], {0: lost, 2: lost}),
        "busy": ([65] * 3, {2: "rank 2 says: rank 1 has ended the job with exit code 65"}),
        "disagree": ([65] * 3, {0: disagree, 1: disagree, 2: disagree}),
    }
    return sum(check(way, job(program, [(r, 3) for r in range(3)], way), codes, words)
               for way, (codes, words) in ways.items())


def gpu_ends(program: str) -> int:
    disagree = "rank 0 calls all_reduce (sum) of 10 f32; rank 1 all_reduce (sum) of 11 f32"
    lost = "NCCL, a collective: remote process exited or there was a network error"
    ways = {
        "throw": ([65] * 3, {1: "rank 1 says: row 7 is empty"}),
        "abort": ([17] * 3, {}),
        "kill": ([75, -9, 75], {}),
        "disagree": ([70] * 3, {0: disagree, 1: disagree, 2: disagree}),
        "disagree_late": ([84] * 3, {0: "NCCL, a collective: invalid usage"}),
        "absent": ([82] * 2, {0: "NCCL, starting: the other ranks were not reached within 2 s"}),
        "no_such_gpu": ([84] * 3, {2: "it is number 2 there and wants GPU 2, but sees 2 only"}),
        "same_gpu": ([84] * 3, {1: "ranks 0 and 1 would share GPU 0000:17:00.0 of "}),
        "gpu_gone": ([75] * 3, {0: lost, 2: lost}),
    }
    return sum(check(way, job(program, [(r, len(codes)) for r in range(len(codes))], way), codes, words)
               for way, (codes, words) in ways.items())


def count_gpus() -> int:
    if shutil.which("nvidia-smi") is None:
        return 1
    listed = subprocess.run(["nvidia-smi", "-L"], text=True, capture_output=True, timeout=LIMIT_S)
    return max(1, sum(line.startswith("GPU ") for line in listed.stdout.splitlines()))


def meeting(program: str) -> int:
    at = " ranks meet at 127.0.0.1:PORT"
    late = "ranks 2, 4 did not come within 2 s; 5" + at
    cases = [
        ("missing", [(0, 5), (1, 5), (3, 5)], [82] * 3, {0: late, 1: "rank 0 says: " + late, 2: "rank 0 says: " + late}),
        ("no rank 0", [(1, 3), (2, 3)], [82] * 2, {0: "nobody answers at 127.0.0.1:PORT"}),
        ("twice", [(0, 3), (1, 3), (1, 3)], [78] * 3, {0: "two processes call themselves rank 1 of 3"}),
        ("another size", [(0, 3), (1, 3), (2, 4)], [78] * 3, {0: "expects 4 ranks, rank 0 expects 3; 3" + at}),
        ("no such rank", [(3, 3)], [78], {0: "rank 3 of 3 cannot be: RANK=3, WORLD_SIZE=3"}),
    ]
    bad = sum(check(name, job(program, ranks, "barrier", ONPA_JOIN_SECONDS=2), codes, words)
              for name, ranks, codes, words in cases)
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        alone = subprocess.run([program, "barrier"], text=True, capture_output=True, timeout=LIMIT_S, env=environment(
            RANK=0, WORLD_SIZE=2, MASTER_ADDR="127.0.0.1", MASTER_PORT=port))
    return bad + check("port taken", [(alone.returncode, alone.stderr)], [78],
                       {0: f"port {port} cannot be listened at: Address already in use"})


def main() -> int:
    program, what = sys.argv[1:]
    if what == "ends":
        return ends(program)
    if what == "gpu_ends":
        return gpu_ends(program)
    if what == "meeting":
        return meeting(program)
    ranks = count_gpus() if what == "gpus" else int(what)
    return check(f"{ranks} ranks", job(program, [(r, ranks) for r in range(ranks)]), [0] * ranks, {})


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
