"""Checkpoints that are interrupted, cannot be written, or are damaged."""
import shutil
from pathlib import Path

from harness import fault

SELDOM = ("train.checkpoint_steps=0", "train.checkpoint_epochs=2")  # two saves in a run


def operations(t, kind: str, args) -> int:
    """How many operations on files of a kind a run makes."""
    low, high = 0, 1
    # eio at an operation that is never reached changes nothing; a doubling search finds the end.
    def reached(n: int) -> bool:
        t.forget("count")
        return t.run(*args("count"), env={"ONPA_FAULT": f"{kind}:{n}:kill"}).code == 137
    while reached(high):
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if reached(middle) else (low, middle)
    t.forget("count")
    return low


@fault("SIGKILL at a file operation of a checkpoint, each in turn until a run passes untouched",
       "resumed: same bits, same metrics; nothing left over", "137, then 0")
def killed_at_every_operation(t):
    t.dense_data()
    args = lambda run: t.dense(run, *SELDOM)
    t.whole(args("whole"))
    last = operations(t, "checkpoint", args)
    t.check(last > 50, last, "operations")
    for n in t.some(range(1, last + 1), 6):
        t.tries += 1
        t.forget("a")
        t.code(t.run(*args("a"), env={"ONPA_FAULT": f"checkpoint:{n}:kill"}), 137)
        t.resume(args("a"), "whole", "a", "operation", n)
    t.forget("a")
    t.code(t.run(*args("a"), env={"ONPA_FAULT": f"checkpoint:{last + 1}:kill"}), 0)
    t.same_run("whole", "a")


@fault("SIGKILL at an operation on lock, settings, metrics or TensorBoard events",
       "resumed: same bits, same metrics; nothing left over", "137, then 0")
def killed_at_other_files(t):
    t.dense_data()
    args = lambda run: t.dense(run, *SELDOM)
    t.whole(args("whole"))
    for kind in ("run", "metrics", "events"):
        for n in t.some(range(1, operations(t, kind, args) + 1) if t.exhaustive else (3, 5, 8, 13), 2):
            t.tries += 1
            t.forget("a")
            t.code(t.run(*args("a"), env={"ONPA_FAULT": f"{kind}:{n}:kill"}), 137)
            t.resume(args("a"), "whole", "a", kind, n)


@fault("ENOSPC or EIO at an operation of a checkpoint, once or from there on",
       "training goes on, one warning a save; older checkpoints intact; 74 only if the last save failed",
       "0 or 74, then 0")
def failed_at_every_operation(t):
    t.dense_data()
    args = lambda run: t.dense(run, *SELDOM)
    t.whole(args("whole"))
    last = operations(t, "checkpoint", args)
    for action in ("enospc", "eio"):
        for n in t.some(range(1, last + 1), 3):
            for stays in ("", "+") if t.exhaustive else ("",):
                t.tries += 1
                t.forget("a")
                first = t.run(*args("a"), env={"ONPA_FAULT": f"checkpoint:{n}{stays}:{action}"})
                reason = "No space left on device" if action == "enospc" else "Input/output error"
                t.says(first, reason)
                t.code(first, 0, 74)
                warnings = first.err.count("not saved")
                t.check(1 <= warnings <= (3 if stays else 1), warnings, "warnings at", n)
                t.clean("a", n)
                t.resume(args("a"), "whole", "a", action, n, stays)


@fault("write, fsync, rename, symlink or close of a checkpoint fails with EDQUOT, EROFS, EIO or writes short",
       "training goes on; older checkpoints intact; 74 only if the last save failed; a short write is gone on with",
       "0 or 74, then 0", needs=("shim",))
def system_calls_fail(t):
    t.dense_data()
    args = lambda run: t.dense(run, *SELDOM)
    t.whole(args("whole"))
    ways = [(call, error, n) for call in ("write", "fsync", "rename", "symlink") for error in ("EDQUOT", "EROFS", "EIO")
            for n in range(1, 12)] + [("write", "short", n) for n in range(1, 12)]
    for call, error, n in t.some(ways, 8):
        t.tries += 1
        t.forget("a")
        env = {"LD_PRELOAD": t.tools.shim, "ONPA_SHIM_ROOT": str(t.folder / "a" / "checkpoints"),
               "ONPA_SHIM_FAIL": f"{call}:{n}:{error}"}
        first = t.run(*args("a"), env=env)
        t.code(first, 0, 74)
        words = {"EDQUOT": "Disk quota exceeded", "EROFS": "Read-only file system", "EIO": "Input/output error"}
        if error == "short":
            t.code(first, 0)
        elif "not saved" in first.err:
            t.says(first, words[error])
        t.clean("a", call, error, n)
        t.resume(args("a"), "whole", "a", call, error, n)


def flip(rng, data: bytes) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1:]


DAMAGE = {
    "a flipped bit": flip,
    "cut short": lambda rng, data: data[:rng.randrange(len(data))],
    "empty": lambda rng, data: b"",
    "a byte too many": lambda rng, data: data + b"\0",
    "zeros of the same size": lambda rng, data: bytes(len(data)),
}


@fault("a file of the newest checkpoint has a flipped bit, is cut, empty, longer, all zeros, missing, or is that of "
       "another step or another file",
       "passed over with a warning that names the file; goes on from the one before: same bits", "0")
def newest_is_damaged(t):
    t.dense_data()
    t.whole(t.dense("whole"))
    t.whole(t.dense("part", "train.max_steps=20"), "part")
    newest, before = (t.folder / "part/checkpoints" / f"step_{step:08d}" for step in (20, 14))
    names = sorted(p.name for p in newest.iterdir())
    t.check("MANIFEST.json" in names and len(names) >= 5, names)

    def spoil(name: str, change) -> None:
        t.forget("a")
        shutil.copytree(t.folder / "part", t.folder / "a", symlinks=True)
        path = t.folder / "a/checkpoints" / newest.name / name
        change(path)
        if path.exists() and path.read_bytes() == (newest / name).read_bytes():
            return  # both steps have this file
        t.tries += 1
        result = t.run(*t.dense("a"))
        t.code(result, 0)
        t.says(result, "warning: checkpoint passed over", newest.name, "resuming at step 14")
        t.same_run("whole", "a", name)

    ways = [(name, kind) for name in names for kind in DAMAGE for _ in range(8 if kind == "a flipped bit" else 1)]
    for name, kind in t.some(ways, 6):
        spoil(name, lambda path: path.write_bytes(DAMAGE[kind](t.rng, path.read_bytes())))
    for name in t.some(names, 1):
        spoil(name, Path.unlink)
        spoil(name, lambda path: path.write_bytes((before / path.name).read_bytes()))
    tensors = [name for name in names if name.endswith(".safetensors")]
    for one, other in t.some(list(zip(tensors, tensors[1:] + tensors[:1])), 1):
        spoil(one, lambda path: path.write_bytes((newest / other).read_bytes()))


@fault("every checkpoint of a run is damaged", "refused, every one named; nothing is trained or removed", "83")
def all_are_damaged(t):
    t.dense_data()
    t.whole(t.dense("a", "train.max_steps=20"), "a")
    folders = sorted((t.folder / "a/checkpoints").glob("step_*"))
    for kind in t.some(list(DAMAGE), 2):
        t.tries += 1
        t.forget("b")
        shutil.copytree(t.folder / "a", t.folder / "b", symlinks=True)
        for folder in (t.folder / "b/checkpoints").glob("step_*"):
            path = folder / "model.safetensors"
            path.write_bytes(DAMAGE[kind](t.rng, path.read_bytes()))
        result = t.run(*t.dense("b"))
        t.code(result, 83)
        t.says(result, "no valid checkpoint to resume from", *(folder.name for folder in folders))
        t.check(len(list((t.folder / "b/checkpoints").glob("step_*"))) == len(folders), "a checkpoint is gone")


@fault("a checkpoint whose weights, all hashes right, are those of another architecture",
       "refused, tensor and both shapes named; nothing is loaded", "83")
def other_architecture(t):
    t.dense_data()
    t.whole(t.dense("a", "train.max_steps=7"), "a")
    t.whole(t.dense("b", "train.max_steps=7", "model.hidden=[16,9]"), "b")
    for name in ("model.safetensors", "optim.safetensors"):
        t.tries += 1
        t.forget("c")
        shutil.copytree(t.folder / "a", t.folder / "c", symlinks=True)
        checkpoint = t.folder / "c/checkpoints/step_00000007"
        shutil.copy(t.folder / "b/checkpoints/step_00000007" / name, checkpoint / name)
        t.check(t.run_tool("seal", checkpoint).returncode == 0)
        result = t.run(*t.dense("c"))
        t.code(result, 83)
        t.says(result, "(8, 16)", "(9, 16)")


@fault("more saves than are kept, while the best lies further back and the newest is damaged before each resume",
       "the newest that is whole, the last `keep` and the best are there", "0")
def retention(t):
    t.dense_data()
    args = lambda steps: t.dense("a", "train.keep=2", "train.checkpoint_steps=5", "train.checkpoint_epochs=1",
                                 f"train.max_steps={steps}")
    for steps in t.some(range(10, 41, 5), 4):
        t.tries += 1
        t.code(t.run(*args(steps)), 0)
        checkpoints = t.folder / "a/checkpoints"
        found = sorted(p.name for p in checkpoints.glob("step_*"))
        best = (checkpoints / "best").readlink().name if (checkpoints / "best").is_symlink() else None
        t.check(f"step_{steps:08d}" == (checkpoints / "last").readlink().name, found)
        t.check(len([name for name in found if name != best]) <= 2, found, best)
        t.check(best is None or best in found, found, best)
        path = checkpoints / f"step_{steps:08d}" / "optim.safetensors"
        path.write_bytes(flip(t.rng, path.read_bytes()))
        found = t.run_tool("find", text=f"{checkpoints}\n").stdout.split()
        t.check(found[0] != "none" and int(found[0]) < steps, found)
