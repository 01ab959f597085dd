#!/usr/bin/env python3
"""Compares the registers, shared memory, spills and stack of every kernel with docs/kernel_resources.md.

What ptxas said of each kernel lies beside the objects of the build (OBJECT.ptxas). A spill fails, and so
does any difference from the table, which --update writes. Under another nvcc than the table's, only
spills are looked at.
"""
import argparse
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
TABLE = ROOT / "docs" / "kernel_resources.md"
ENTRY = re.compile(r"Compiling entry function '(\S+)' for 'sm_(\d+)\w*'")
PROPERTIES = re.compile(r"Function properties for (\S+)")
STACK = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
USED = re.compile(r"Used (\d+) registers")
SMEM = re.compile(r"(\d+) bytes smem")
HEADER = """# What each kernel takes

Written by `tools/ptxas_table.py --update` from what ptxas says; `./dev test` fails when a kernel differs from
its row or spills. `smem` is static shared memory (a launch may ask for more), stack is local memory
in bytes for each thread.

"""


def short_names(mangled: list[str]) -> dict[str, str]:
    """Readable names: no return type, namespaces of ours or parameters, unless two kernels would share one."""
    said = subprocess.run(["c++filt"], input="\n".join(mangled), capture_output=True, text=True, check=True)
    full = dict(zip(mangled, said.stdout.splitlines()))

    def clean(name: str) -> str:
        for word in ("(anonymous namespace)::", "onpa::kernels::", "onpa::gpu::", "onpa::", "void "):
            name = name.replace(word, "")
        return name

    def without_parameters(name: str) -> str:
        depth = 0
        for i, c in enumerate(name):
            depth += (c == "<") - (c == ">")
            if c == "(" and depth == 0:
                return name[:i]
        return name

    short = {m: without_parameters(clean(f)) for m, f in full.items()}
    count: dict[str, int] = {}
    for name in short.values():
        count[name] = count.get(name, 0) + 1
    return {m: s if count[s] == 1 else clean(full[m]) for m, s in short.items()}


def read(path: pathlib.Path) -> dict[str, dict[str, tuple[int, int, int, int]]]:
    """{kernel: {architecture: (registers, smem, spilled bytes, stack)}} of one object."""
    rows: dict[str, dict[str, list[int]]] = {}
    entry = function = arch = ""
    for line in path.read_text().splitlines():
        if match := ENTRY.search(line):
            entry, arch = match[1], match[2]
            function = entry
            rows.setdefault(entry, {})[arch] = [0, 0, 0, 0]
        elif match := PROPERTIES.search(line):
            function = match[1]
        elif entry and (match := STACK.search(line)):
            rows[entry][arch][2] += int(match[2]) + int(match[3])  # functions that it calls, too
            if function == entry:
                rows[entry][arch][3] = int(match[1])
        elif entry and (match := USED.search(line)):
            rows[entry][arch][0] = int(match[1])
            rows[entry][arch][1] = int(smem[1]) if (smem := SMEM.search(line)) else 0
    names = short_names(list(rows)) if rows else {}
    return {names[m]: {a: tuple(v) for a, v in by_arch.items()} for m, by_arch in rows.items()}


def table(build: pathlib.Path, nvcc: str) -> tuple[str, list[str]]:
    lines, spilling, archs, files = [], [], set(), {}
    for source in sorted((ROOT / "kernels" / "cuda").glob("*.cu")):
        log = build / "CMakeFiles/onpa_cuda.dir/kernels/cuda" / f"{source.name}.o.ptxas"
        if not log.exists():
            sys.exit(f"{log} is missing; build onpa_cuda first")
        files[source.stem] = read(log)
        for by_arch in files[source.stem].values():
            archs |= set(by_arch)
    order = sorted(archs, key=int)
    for stem, kernels in files.items():
        for name in sorted(kernels):
            cells = []
            for arch in order:
                registers, smem, spills, stack = kernels[name].get(arch, (0, 0, 0, 0))
                cells.append(f"{registers} / {smem} / {spills} / {stack}")
                if spills:
                    spilling.append(f"{stem}.cu: {name} spills {spills} bytes on sm_{arch}")
            lines.append(f"| {stem} | `{name}` | {' | '.join(cells)} |")
    head = "| file | kernel | " + " | ".join(f"sm_{a}: registers / smem / spills / stack" for a in order) + " |"
    rule = "|---|---|" + "---|" * len(order)
    return f"{HEADER}nvcc {nvcc}, {len(lines)} kernels.\n\n" + "\n".join([head, rule, *lines]) + "\n", spilling


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
    parser.add_argument("--update", action="store_true", help="write the table")
    args = parser.parse_args()
    found = re.search(r"CMAKE_CUDA_COMPILER_VERSION \"([\d.]+)\"", "\n".join(
        p.read_text() for p in args.build.glob("CMakeFiles/*/CMakeCUDACompiler.cmake")))
    if not found:
        sys.exit(f"{args.build} is no CUDA build")
    text, spilling = table(args.build, found[1])
    for line in spilling:
        print(line)
    if args.update:
        TABLE.write_text(text)
        print(f"wrote {TABLE.relative_to(ROOT)}")
        return 1 if spilling else 0
    want = TABLE.read_text() if TABLE.exists() else ""
    if f"nvcc {found[1]}," not in want and want:
        print(f"the table is of another nvcc than {found[1]}: only spills were looked at")
        return 1 if spilling else 0
    if text != want:
        rows = set(want.splitlines())
        print("\n".join(line for line in text.splitlines() if line not in rows))
        gone = set(text.splitlines())
        print("\n".join(f"no longer: {line}" for line in want.splitlines() if line not in gone))
        print("kernels differ from docs/kernel_resources.md; if that is meant: tools/ptxas_table.py --update")
        return 1
    return 1 if spilling else 0


if __name__ == "__main__":
    sys.exit(main())
