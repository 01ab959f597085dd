#!/usr/bin/env python3
"""How a job of three processes ends when rank 1 does something else than the others, who wait for it.

usage: mpi_ends.py MPIRUN TEST_DIST_MPI
The exit code of mpirun, what was said and that no process is left are checked for each way.
"""
import os
import subprocess
import sys
import time

# way: mpirun's exit code, what stderr has to hold
WAYS = {
    "throw": (65, "rank 1 says: row 7 is empty"),
    "abort": (17, ""),
    "abort300": (70, ""),  # a code that does not fit becomes that of a bug
    "exit0": (1, ""),  # mpirun's own
    "kill": (137, ""),
    "disagree": (65, "rank 0 calls call 0, all_reduce (sum) of 500 f32; rank 2 call 0, all_reduce (sum) of 501 f32"),
}


def left_over(mark: str) -> list[str]:
    """Processes with `mark` in their environment, and still alive."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/environ", "rb") as environ, open(f"/proc/{pid}/stat") as stat:
                if mark.encode() in environ.read() and stat.read().rsplit(")", 1)[1].split()[0] != "Z":
                    found.append(pid)
        except OSError:
            pass
    return found


def main() -> int:
    mpirun, program = sys.argv[1:]
    bad = 0
    for way, (want, words) in WAYS.items():
        mark = f"ONPA_TEST_JOB={os.getpid()}_{way}_end"
        job = subprocess.run(
            [mpirun, "--oversubscribe", "--allow-run-as-root", "--bind-to", "none", "-np", "3", program, way],
            env=dict(os.environ, ONPA_TEST_JOB=mark.split("=")[1]), capture_output=True, text=True, timeout=60)
        until = time.monotonic() + 5
        while (left := left_over(mark)) and time.monotonic() < until:
            time.sleep(0.05)
        ok = job.returncode == want and words in job.stderr and not left
        print(f"{way}: exit code {job.returncode}, want {want}; left over: {left or 'none'}")
        if not ok:
            print(job.stdout, job.stderr, sep="\n")
            bad += 1
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
