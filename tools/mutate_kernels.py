#!/usr/bin/env python3
"""Removes barriers, cp.async waits and commits and bounds checks from kernels/cuda one at a time and lists those
that no test in the simulator misses.

Bounds checks are, in device code, all comparisons with <, <=, > and >= (taken as passed), loops that the
threads share out (one step further), min() (either argument alone) and the predicates of
cp_async16. Each change is compiled in a copy, linked into test_cuda_sim in the place of the original,
and the family's tests run; if they pass, so do the family's race tests. Results are kept by a hash of
sources and tests, so an interrupted run goes on where it was. `// mutation: REASON` on a line or in
the comment above it takes the line out, `// mutation to REPLACEMENT: REASON` one of its changes. Needs a CUDA build with its simulator tests up to date.
"""
import argparse
import concurrent.futures
import dataclasses
import hashlib
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile
import threading

ROOT = pathlib.Path(__file__).resolve().parent.parent
KERNELS = ROOT / "kernels" / "cuda"
INCLUDE = re.compile(r'#include "(kernels/[^"]+)"')
BARRIER = re.compile(r"(?:gpu::)?\b(?:__syncthreads|__syncwarp|cp_async_wait<[^;<>]*>|cp_async_commit)\([^;()]*\);"
                     r"|__syncthreads_(?:and|or)(\([^;()]*\))")
COMPARISON = re.compile(r"\s(<=|>=|<|>)\s")  # the spaces tell it from a template
HEADER = re.compile(r"\b(for|if|while|if constexpr|static_assert) ?\(")
CONSTANT = re.compile(r"(?:[\d\s+\-*/()]|(?:\w+::)*\bk[A-Z]\w*(?:<\w+>)?)+")
OWN_PART = re.compile(r"\b(?:threadIdx|blockIdx|tid|thread|warp|lane|group|begin)\b")
REASON = re.compile(r"// mutation(?: to (.+?))?: (.+)")
TEST = re.compile(r"\b(?:TEST|TEST_F|TEST_P|TYPED_TEST)\(\s*(\w+)")
PROGRAMS = (("onpa_cuda_sim_address", "test_cuda_sim", "tests"),
            ("onpa_cuda_sim_thread", "test_cuda_sim_race", "races"))
LIMIT_S = 600
lock = threading.Lock()


@dataclasses.dataclass(frozen=True)
class Mutant:
    file: pathlib.Path
    line: int
    kind: str
    text: str     # what is taken away
    source: str   # the whole file without it
    reason: str   # why nothing can miss it; empty where a test must

    def name(self) -> str:
        return f"{self.file.relative_to(ROOT)}:{self.line}: {self.kind} {self.text}"


def closing(text: str, at: int) -> int:
    """Index behind the bracket that closes text[at]."""
    depth = 0
    for i in range(at, len(text)):
        depth += (text[i] in "([{") - (text[i] in ")]}")
        if depth == 0:
            return i + 1
    return len(text)


def blank_comments(text: str) -> str:
    return re.sub(r"//[^\n]*|/\*.*?\*/", lambda m: re.sub(r"[^\n]", " ", m[0]), text, flags=re.S)


def device_bodies(code: str) -> list[tuple[int, int]]:
    bodies = []
    for start in re.finditer(r"\b(?:__global__|GPU_FN)\b", code):
        brace, end = code.find("{", start.end()), code.find(";", start.end())
        if brace >= 0 and (end < 0 or brace < end):
            bodies.append((brace, closing(code, brace)))
    return bodies


def clauses(code: str, a: int, b: int, separators: str) -> list[tuple[int, int]]:
    """Parts of code[a:b] between separators outside of brackets."""
    out, depth, begin = [], 0, a
    for i in range(a, b):
        depth += (code[i] in "([{") - (code[i] in ")]}")
        if depth == 0 and code[i] in separators:
            out.append((begin, i))
            begin = i + 1
    return [*out, (begin, b)]


def operand(code: str, at: int, step: int) -> int:
    """Where the operand of a comparison that touches code[at] ends, going by `step` from there."""
    depth, i = 0, at
    while 0 <= i < len(code):
        c = code[i]
        depth += step * ((c in "([{") - (c in ")]}"))
        scope = c == ":" and ":" in (code[i - 1], code[i + 1])
        if depth < 0 or depth == 0 and c in ",;?:&|=!" and not scope:
            break
        i += step
    return i


def one_more_round(code: str, header: tuple[int, int], left: str, op: str, right: str) -> str | None:
    """The condition of a loop that the threads share out, going one step too far; None for others."""
    start, _, steps = (code[slice(*part)] for part in clauses(code, *header, ";"))
    if op not in ("<", "<=") or CONSTANT.fullmatch(right) or not OWN_PART.search(start):
        return None
    step = re.search(rf"(?<![\w.]){re.escape(left.split()[0])} \+= ([^,]+)", steps)
    return f"{left} {op} {right} + ({step[1].strip() if step else 1})"


def leaves(code: str, at: int) -> bool:
    """Whether what begins at `at`, behind the condition of an `if`, does not go on behind it."""
    at += len(re.match(r"\s*", code[at:])[0])
    end = closing(code, at) if code[at] == "{" else code.index(";", at) + 1
    return re.search(r"\b(return|continue|break)\b[^;]*;\s*}?$", code[at:end]) is not None


def without_check(op: str, right: str, leaving: bool) -> str:
    """What a comparison says of an index that it lets pass."""
    if op in ("<", "<="):
        return "false" if right == "0" else "true"
    return "false" if leaving else "true"


def comparisons(code: str, begin: int, end: int) -> list[tuple[int, int, str, str]]:
    """(from, to, replacement, kind) of the comparisons between two places."""
    headers = [(m[1], m.end(), closing(code, m.end() - 1) - 1) for m in HEADER.finditer(code, begin, end)]
    found = []
    for m in COMPARISON.finditer(code, begin, end):
        a, b = operand(code, m.start(), -1) + 1, operand(code, m.end(), 1)
        a += len(re.match(r"\s*(?:return\s)?\s*", code[a:b])[0])
        b = a + len(code[a:b].rstrip())
        left, right = code[a:m.start()].strip(), code[m.end():b].strip()
        kind, first, last = next((h for h in headers if h[1] <= m.start() < h[2]), ("", 0, 0))
        if kind in ("if constexpr", "static_assert") or CONSTANT.fullmatch(left + right):
            continue
        if kind == "for":
            if clauses(code, first, last, ";")[1][0] <= m.start() and (
                    further := one_more_round(code, (first, last), left, m[1], right)):
                found.append((a, b, further, "loop"))
            continue
        found.append((a, b, without_check(m[1], right, kind == "if" and leaves(code, last + 1)), "check"))
    return found


def clamps_and_predicates(code: str, begin: int, end: int) -> list[tuple[int, int, str, str]]:
    found = []
    for m in re.compile(r"\b(min|cp_async16)\(").finditer(code, begin, end):
        stop = closing(code, m.end() - 1)
        arguments = clauses(code, m.end(), stop - 1, ",")
        if m[1] == "min":
            found += [(m.start(), stop, f"({code[slice(*a)].strip()})", "clamp") for a in arguments]
        elif len(arguments) == 3:
            found.append((*arguments[2], " true", "predicate"))
    return found


def barriers(code: str, begin: int, end: int) -> list[tuple[int, int, str, str]]:
    return [(m.start(), m.end(), m[1] or "{}", "barrier") for m in BARRIER.finditer(code, begin, end)]


def reason_of(lines: list[str], at: int, replacement: str) -> str:
    """The reason on lines[at] or in the comment above it."""
    while not (m := REASON.search(lines[at])) or m[1] not in (None, replacement):
        at -= 1
        if at < 0 or not lines[at].lstrip().startswith("//"):
            return ""
    return m[2]


def mutants_of(path: pathlib.Path) -> list[Mutant]:
    text = path.read_text()
    code = blank_comments(text)
    lines = text.splitlines()
    out: dict[str, Mutant] = {}
    for body in device_bodies(code):
        found = comparisons(code, *body) + clamps_and_predicates(code, *body)
        if path.name != "mma.cuh":  # defines the asynchronous copies
            found += barriers(code, *body)
        for a, b, replacement, kind in sorted(found):
            line = text.count("\n", 0, a) + 1
            change = " ".join(text[a:b].split())
            if kind not in ("barrier", "predicate"):
                change += f" -> {replacement}"
            source = text[:a] + replacement + text[b:]
            out.setdefault(source, Mutant(path, line, kind, change, source, reason_of(lines, line - 1, replacement)))
    return list(out.values())


def includes(path: pathlib.Path) -> set[pathlib.Path]:
    """Files of kernels/ that a kernel source sees; contracts are not followed further."""
    seen, todo = set(), [path]
    while todo:
        file = todo.pop()
        if file in seen or not file.exists():
            continue
        seen.add(file)
        if file.parent == KERNELS:
            todo += [ROOT / name for name in INCLUDE.findall(file.read_text())]
    return seen


class Builder:
    """Compiles and links with the commands of the build folder."""

    def __init__(self, build: pathlib.Path, scratch: pathlib.Path):
        self.build, self.scratch = build, scratch
        self.compile_commands = json.loads((build / "compile_commands.json").read_text())
        self.links: dict[str, list[str]] = {}

    def compile_command(self, source: pathlib.Path, library: str) -> list[str]:
        for entry in self.compile_commands:
            if pathlib.Path(entry["file"]) == source and f"{library}.dir/" in entry["command"]:
                words = shlex.split(entry["command"])
                return words[1:] if words[0].endswith("ccache") else words  # no mutant comes twice
        raise SystemExit(f"no command for {source} in {library}")

    def link_command(self, program: str) -> list[str]:
        with lock:
            if program not in self.links:
                said = subprocess.run(["ninja", "-C", str(self.build), "-t", "commands", program],
                                      capture_output=True, text=True, check=True).stdout
                command = said.strip().splitlines()[-1]
                self.links[program] = shlex.split(command.removeprefix(": && ").removesuffix(" && :"))
            return self.links[program]

    def make(self, mutant: Mutant, sources: list[pathlib.Path], library: str, program: str,
             folder: pathlib.Path) -> pathlib.Path | None:
        overlay = folder / mutant.file.relative_to(ROOT)
        overlay.parent.mkdir(parents=True, exist_ok=True)
        overlay.write_text(mutant.source)
        objects = []
        for source in sources:
            words = self.compile_command(source, library)
            target = folder / f"{source.name}.{library}.o"
            words[words.index("-o") + 1] = str(target)
            words[words.index("-c") + 1] = str(overlay if source == mutant.file else source)
            words[1:1] = [f"-I{folder}", "-w"]
            if subprocess.run(words, cwd=self.build, capture_output=True).returncode != 0:
                return None
            objects.append(str(target))
        words = list(self.link_command(program))
        out = folder / program
        words[words.index("-o") + 1] = str(out)
        # Ahead of the library, whose own object is then never asked for.
        first = next(i for i, w in enumerate(words) if w.endswith(f"lib{library}.a"))
        words[first:first] = objects
        done = subprocess.run(words, cwd=self.build, capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"linking {program} failed:\n{done.stderr[-3000:]}")
        return out


def test_filter(files: list[pathlib.Path]) -> str:
    suites = sorted({suite for file in files for suite in TEST.findall(file.read_text())})
    return ":".join(f"{s}.*:*/{s}.*:{s}/*" for s in suites)


def passes(program: pathlib.Path, tests: list[pathlib.Path]) -> bool:
    env = {**os.environ, "GTEST_FAIL_FAST": "1", "ASAN_OPTIONS": "detect_leaks=0"}
    try:
        return subprocess.run([str(program), f"--gtest_filter={test_filter(tests)}"], env=env, cwd=program.parent,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=LIMIT_S).returncode == 0
    except subprocess.TimeoutExpired:
        return False  # it hangs: noticed


def judge(mutant: Mutant, builder: Builder, users: list[pathlib.Path], tests: dict[str, list[pathlib.Path]]) -> str:
    with tempfile.TemporaryDirectory(dir=builder.scratch) as scratch:
        folder = pathlib.Path(scratch)
        ran = False
        for library, program, kind in PROGRAMS:
            if not tests[kind]:
                continue
            made = builder.make(mutant, users, library, program, folder)
            if made is None:
                return "does not compile"
            ran = True
            if not passes(made, tests[kind]):
                return f"found by {program}"
    return "survives" if ran else "has no tests"


def tests_for(users: list[pathlib.Path]) -> dict[str, list[pathlib.Path]]:
    """Test files whose subject, the contract that they include first, the sources implement."""
    contracts = {f"kernels/{f.name}" for user in users for f in includes(user) if f.parent == ROOT / "kernels"}
    families = {pathlib.PurePath(c).stem for c in contracts}
    out: dict[str, list[pathlib.Path]] = {"tests": [], "races": []}
    for file in sorted((ROOT / "tests" / "cuda").glob("*.cpp")):
        if file.name.startswith("race_"):
            if any(file.stem.removeprefix("race_").startswith(f) for f in families):
                out["races"].append(file)
        elif (first := INCLUDE.search(file.read_text())) and first[1] in contracts:
            out["tests"].append(file)
    own = {u.stem.split("_")[0] for u in users}
    narrowed = [t for t in out["tests"] if t.name.removesuffix("_test.cpp") in own]
    out["tests"] = narrowed or out["tests"]
    return out


def collect(family: str) -> tuple[list[tuple], list[Mutant]]:
    """What to try, as (key, mutant, sources that see it, their tests), and what has a reason."""
    sources = sorted(KERNELS.glob("*.cu"))
    seen_by = {source: includes(source) for source in sources}
    work, reasons = [], []
    for file in sorted([*sources, *KERNELS.glob("*.cuh")]):
        if not file.name.startswith(family):
            continue
        users = [s for s in sources if file in seen_by[s]]
        tests = tests_for(users)
        context = "".join(f.read_text() for user in users for f in sorted(seen_by[user])) + "".join(
            f.read_text() for kind in sorted(tests) for f in tests[kind])
        for mutant in mutants_of(file):
            if mutant.reason:
                reasons.append(mutant)
                continue
            key = hashlib.sha256((mutant.source + context).encode()).hexdigest()[:24]
            work.append((key, mutant, users, tests))
    return work, reasons


def check_unchanged(build: pathlib.Path, work: list[tuple]) -> None:
    """Where a test fails anyway, every change would count as found."""
    for _, program, kind in PROGRAMS:
        tests = sorted({test for *_, tests in work for test in tests[kind]})
        if tests and not passes(build / program, tests):
            raise SystemExit(f"{program} fails without any change")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
    parser.add_argument("--family", default="", help="only files of kernels/cuda whose name starts with this")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--limit", type=int, default=0, help="stop after so many new results")
    parser.add_argument("--list", action="store_true", help="only list what would be taken away")
    parser.add_argument("--results", type=pathlib.Path, help="default: mutants.json in the build folder")
    args = parser.parse_args()
    args.build = args.build.resolve()
    store = args.results or args.build / "mutants.json"
    results: dict[str, dict[str, str]] = json.loads(store.read_text()) if store.exists() else {}

    work, reasons = collect(args.family)
    if args.list:
        for _, mutant, _, tests in work:
            print(mutant.name(), "->", ", ".join(t.name for t in tests["tests"] + tests["races"]))
        for mutant in reasons:
            print(f"{mutant.name()}: not tried: {mutant.reason}")
        print(f"{len(work)} mutants, and {len(reasons)} with a reason")
        return 0

    fresh = [w for w in work if w[0] not in results]
    fresh = fresh[:args.limit] if args.limit else fresh
    scratch = args.build / "mutants"
    scratch.mkdir(exist_ok=True)
    builder = Builder(args.build, scratch)
    check_unchanged(args.build, fresh)

    def run_one(item: tuple) -> None:
        key, mutant, users, tests = item
        said = judge(mutant, builder, users, tests)
        with lock:
            results[key] = {"mutant": mutant.name(), "result": said}
            store.write_text(json.dumps(results, indent=1) + "\n")
            print(f"{said:26s} {mutant.name()}", flush=True)

    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        list(pool.map(run_one, fresh))
    known = [results[key] for key, *_ in work if key in results]
    open_ones = [r for r in known if not r["result"].startswith("found")]
    print(f"\n{len(known)} of {len(work)} tried, {len(reasons)} with a reason not to, {len(open_ones)} not noticed:")
    for r in open_ones:
        print(f"  {r['result']:16s} {r['mutant']}")
    return 1 if open_ones else 0


if __name__ == "__main__":
    sys.exit(main())
