#!/usr/bin/env python3
"""Compiles every header of the tree alone, with the include paths of the build folder given."""
import concurrent.futures
import json
import os
import pathlib
import shlex
import subprocess
import sys


def main() -> int:
    root = pathlib.Path(__file__).resolve().parent.parent
    build = pathlib.Path(sys.argv[1])
    flags: dict[str, None] = {}
    for entry in json.loads((build / "compile_commands.json").read_text()):
        words = shlex.split(entry["command"])
        for i, word in enumerate(words):
            if word.startswith(("-I", "-D")):
                flags[word] = None
            elif word == "-isystem":
                flags[f"-isystem{words[i + 1]}"] = None
    headers = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "*.h"], cwd=root,
                             check=True, capture_output=True, text=True).stdout.split()
    if "-DONPA_CUDA=1" not in flags:  # their headers are the toolkit's
        headers = [h for h in headers if not {"cuda", "cuda_sim"} & set(pathlib.PurePath(h).parts)]
    if "-DOMPI_SKIP_MPICXX" not in flags:  # theirs is MPI's
        headers = [h for h in headers if not h.startswith("dist/mpi/")]
    headers = [h for h in headers if not h.startswith("bench/libtorch/")]  # a project of its own, on PyTorch's

    def compile_alone(header: str) -> str:
        command = ["g++", "-std=c++20", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", *flags,
                   "-include", str(root / header), "-x", "c++", "/dev/null"]
        done = subprocess.run(command, capture_output=True, text=True)
        return f"{header} does not compile alone:\n{done.stderr}" if done.returncode else ""

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        errors = [e for e in pool.map(compile_alone, headers) if e]
    print("\n".join(errors))
    print(f"headers: {len(headers)} compiled alone, {len(errors)} failed")
    return 1 if errors or not headers else 0


if __name__ == "__main__":
    sys.exit(main())
