"""Power cuts: what a run did to its files is recorded, then only what was synced is kept, and of the rest
any part, in any order that a file system may choose.

The model is the harshest that POSIX allows. The bytes of a file are safe once fsync() of it has returned;
before that every sector may be there or not. A name in a folder (made, renamed, exchanged, linked,
removed) is safe once fsync() of that folder has returned; before that each change may be there or not, alone.
Only a rename within a folder is atomic. That a file was synced does not make its name safe, nor the other way
round.
"""
import os
import shutil
import struct
from dataclasses import dataclass, field
from pathlib import Path

from harness import Failed, fault

SECTOR = 512
HEAD = struct.Struct("<cIqII")


@dataclass
class Record:
    kind: str
    handle: int
    offset: int
    a: bytes
    b: bytes


def read_log(path: Path) -> list[Record]:
    data, at, out = path.read_bytes(), 0, []
    while at < len(data):
        kind, handle, offset, a_bytes, b_bytes = HEAD.unpack_from(data, at)
        at += HEAD.size
        out.append(Record(kind.decode(), handle, offset, data[at:at + a_bytes], data[at + a_bytes:at + a_bytes + b_bytes]))
        at += a_bytes + b_bytes
    return out


@dataclass(eq=False)
class Node:
    """A file, a folder or a link. `live` is what the program saw, `safe` what survives any power cut."""
    kind: str
    live: object = None  # bytes of a file, {name: Node} of a folder, target of a link
    safe: object = None
    pending: list = field(default_factory=list)  # changes since the last sync


def new_file() -> Node:
    return Node("file", b"", b"")


def new_folder() -> Node:
    return Node("folder", {}, {})


def written(data: bytes, change) -> bytes:
    offset, piece = change
    if piece is None:  # a new length
        return data[:offset].ljust(offset, b"\0")
    return data[:offset].ljust(offset, b"\0") + piece + data[offset + len(piece):]


def renamed(entries: dict, change) -> dict:
    """A change of a folder: names that go, names that come with what they stand for."""
    gone, come = change
    out = {name: node for name, node in entries.items() if name not in gone}
    out.update(come)
    return out


class Disk:
    """The files of one folder while a log is replayed."""

    def __init__(self, root: bytes):
        self.root = root
        self.top = new_folder()
        self.open = {}  # handle -> node

    def find(self, path: bytes) -> Node:
        node = self.top
        for part in path[len(self.root):].split(b"/"):
            if part:
                node = node.live[part]
        return node

    def change_folder(self, folder: Node, gone, come) -> None:
        change = (tuple(gone), dict(come))
        folder.live = renamed(folder.live, change)
        folder.pending.append(change)

    def split(self, path: bytes):
        folder, name = path.rsplit(b"/", 1)
        return self.find(folder), name

    def apply(self, r: Record) -> None:
        if r.kind in "co":
            if r.kind == "c":
                folder, name = self.split(r.a)
                self.change_folder(folder, [], {name: new_file()})
            self.open[r.handle] = self.find(r.a)
            if r.kind == "o" and r.offset:
                self.write(self.open[r.handle], (0, None))
        elif r.kind == "w":
            self.write(self.open[r.handle], (r.offset, r.a))
        elif r.kind == "t":
            self.write(self.open[r.handle], (r.offset, None))
        elif r.kind == "s":
            node = self.open[r.handle]
            node.safe, node.pending = node.live, []
        elif r.kind == "m":
            folder, name = self.split(r.a)
            self.change_folder(folder, [], {name: new_folder()})
        elif r.kind == "l":
            folder, name = self.split(r.a)
            self.change_folder(folder, [], {name: Node("link", r.b, r.b)})
        elif r.kind == "u":
            folder, name = self.split(r.a)
            self.change_folder(folder, [name], {})
        elif r.kind in "rx":
            folder, one = self.split(r.a)
            other_folder, other = self.split(r.b)
            assert folder is other_folder, "a rename between folders"
            come = {other: folder.live[one]}
            if r.kind == "x":
                come[one] = folder.live[other]
            self.change_folder(folder, [one], come)
        else:
            raise AssertionError(f"a record of kind {r.kind}")

    def write(self, node: Node, change) -> None:
        node.live = written(node.live, change)
        node.pending.append(change)


def torn(rng, data: bytes, change) -> bytes:
    """A write of which only some sectors are on the disk."""
    whole = written(data, change)
    if change[1] is None or rng.random() < 0.3:
        return whole
    out = bytearray(whole)
    for at in range(change[0], change[0] + len(change[1]), SECTOR):
        if rng.random() < 0.5:
            end = min(at + SECTOR, change[0] + len(change[1]))
            out[at:end] = data[at:end].ljust(end - at, b"\0")
    return bytes(out)


def survivors(rng, pending: list, way: str) -> list:
    if way == "none":
        return []
    if way == "all":
        return pending
    if way == "first":
        return pending[:rng.randrange(len(pending) + 1)]
    some = [change for change in pending if rng.random() < 0.5]
    if way == "shuffled":
        rng.shuffle(some)
    return some


WAYS = ("none", "all", "first", "some", "shuffled")


def put(rng, node: Node, path: Path, way: str) -> None:
    """What a power cut leaves of a node."""
    own = way if way != "mixed" else rng.choice(WAYS)
    changes = survivors(rng, node.pending, own)
    if node.kind == "file":
        data = node.safe
        for change in changes:
            data = torn(rng, data, change) if own in ("some", "shuffled") else written(data, change)
        path.write_bytes(data)
    elif node.kind == "link":
        path.symlink_to(os.fsdecode(node.safe))
    else:
        entries = node.safe
        for change in changes:
            entries = renamed(entries, change)
        path.mkdir()
        for name, child in entries.items():
            put(rng, child, path / os.fsdecode(name), way)


def step_named(name: bytes) -> int:
    return int(name.rsplit(b"step_", 1)[1])


class History:
    """Which checkpoints must be there at each moment of a log, and what they hold."""

    def __init__(self, root: bytes):
        self.folder = root + b"/a/checkpoints"
        self.done = 0  # newest step whose save has returned
        self.linked = 0  # `last` points to it, but the folder is not synced yet

    def see(self, disk: Disk, r: Record) -> None:
        if r.kind == "r" and r.b == self.folder + b"/last":
            self.linked = step_named(disk.find(r.b).live)
        elif r.kind == "s" and self.linked and disk.open[r.handle] is disk.find(self.folder):
            self.done, self.linked = max(self.done, self.linked), 0


def cut(t, log, root: Path, moments, ways, weights: dict) -> None:
    """Cuts the power at some moments of a log, and looks for checkpoints in what is left."""
    raw = os.fsencode(root)
    disk, history = Disk(raw), History(raw)
    chosen = set(moments)
    left, expected = [], []
    place = t.folder / "cut"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()

    def judge() -> None:
        answers = t.run_tool("find", text="".join(f"{p / 'a/checkpoints'}\n" for p in left)).stdout.splitlines()
        t.check(len(answers) == len(left), "the finder died", answers[-1:])
        for path, answer, (moment, way, done) in zip(left, answers, expected):
            step = 0 if answer == "none" else int(answer.split()[0])
            t.check(step >= done, f"cut after record {moment}, {way}: found step {step}, step {done} was complete; {path}")
            t.check(step == 0 or answer.split()[1] == weights[step], "weights of step", step, "differ", moment, way)
            log_file = path / "a/metrics.jsonl"
            lines = log_file.read_bytes() if log_file.exists() else b""
            t.check(all(b'{"step":%d,' % s in lines for s in range(1, step + 1)),
                    f"cut after record {moment}, {way}: a checkpoint of step {step} outlived the metrics before it")
            last = path / "a/checkpoints/last"
            t.check(not last.is_symlink() or (last / "MANIFEST.json").exists(), "`last` leads nowhere", moment, way)
        for path in left:
            shutil.rmtree(path, ignore_errors=True)
        left.clear()
        expected.clear()

    for moment, r in enumerate(log):
        disk.apply(r)
        history.see(disk, r)
        if moment not in chosen:
            continue
        for way in ways:
            t.tries += 1
            path = place / f"{moment}_{len(left)}"
            put(t.rng, disk.top, path, way)
            left.append(path)
            expected.append((moment, way, history.done))
        if len(left) >= 200:
            judge()
    if left:
        judge()


def recorded(t, args) -> list[Record]:
    """What a run in the folder a of the folder w does to the files there."""
    log = t.folder / "log"
    log.unlink(missing_ok=True)
    t.forget("w")
    (t.folder / "w").mkdir()
    env = {"LD_PRELOAD": t.tools.shim, "ONPA_SHIM_ROOT": str(t.folder / "w"), "ONPA_SHIM_LOG": str(log)}
    t.code(t.run(*args, env=env), 0)
    out = read_log(log)
    t.check(sum(r.kind == "s" for r in out) > 10, "few syncs in the log")
    return out


def weights_by_step(t, args, steps) -> dict:
    weights = {}
    for step in steps:
        t.code(t.run(*args("ref", f"train.max_steps={step}")), 0)
        found, digest = t.run_tool("find", text=f"{t.folder / 'ref/checkpoints'}\n").stdout.split()
        t.check(int(found) == step)
        weights[step] = digest
    return weights


@fault("a power cut at any moment of a run with ten saves; unsynced writes and names kept, dropped, torn or reordered",
       "a checkpoint that loads, never older than the last save that returned, with all metrics before it", "0",
       needs=("shim",))
def any_moment(t):
    t.dense_data()
    args = lambda run, *more: t.dense(run, "train.keep=2", *more)
    weights = weights_by_step(t, args, (7, 10, 14, 20, 21, 28, 30, 35, 40))
    log = recorded(t, args("w/a"))
    moments = range(len(log)) if t.exhaustive else sorted(t.rng.sample(range(len(log)), 40))
    ways = ("none", "all", "first", "some", "shuffled", "mixed", "mixed", "mixed")
    cut(t, log, t.folder / "w", moments, ways if t.exhaustive else ways[:6], weights)


@fault("the same, where saves replace a checkpoint of their own step", "the same", "0", needs=("shim",))
def same_step_again(t):
    t.dense_data()
    args = lambda run, *more: t.dense(run, "train.checkpoint_steps=5", "train.epochs=2", *more)
    weights = weights_by_step(t, args, (5, 10, 15, 20))
    log = recorded(t, args("w/a"))
    t.check(sum(r.kind == "x" for r in log) == 2, "nothing was replaced")
    moments = range(len(log)) if t.exhaustive else sorted(t.rng.sample(range(len(log)), 20))
    cut(t, log, t.folder / "w", moments, (*WAYS, "mixed"), weights)


@fault("the same, of a run that leaves out one kind of fsync: of a file or folder of each kind in turn",
       "the test notices (it can fail)", "0", needs=("shim",))
def missing_syncs_are_noticed(t):
    t.dense_data()
    args = lambda run, *more: t.dense(run, "train.epochs=1", "train.checkpoint_steps=0", "train.checkpoint_epochs=1", *more)
    weights = weights_by_step(t, args, (10,))
    log = recorded(t, args("w/a"))
    for end in (b"/w", b"/w/a", b"/w/a/checkpoints", b"/.tmp-step_00000010", b"/model.safetensors", b"/MANIFEST.json",
                b"/metrics.jsonl"):
        t.tries = tries = t.tries + 1
        handles = {r.handle for r in log if r.kind in "co" and r.a.endswith(end)}
        lying = [r for r in log if r.kind != "s" or r.handle not in handles]
        t.check(len(lying) < len(log), "nothing syncs", end)
        ways = ("none", "all", "some", "shuffled") if t.exhaustive else ("none", "some")
        try:
            cut(t, lying, t.folder / "w", range(len(lying)), ways, weights)
        except Failed:
            continue
        finally:
            t.tries = tries
        raise Failed(f"no harm without fsync of {end.decode()}")


@fault("a power cut at a random moment, then the same command", "goes on from what is left: same bits, same metrics",
       "0", needs=("shim",))
def resumes(t):
    t.dense_data()
    args = lambda run: t.dense(run, "train.keep=2")
    t.whole(args("whole"))
    log = recorded(t, args("w/a"))
    moments = sorted(t.rng.sample(range(len(log)), 150 if t.exhaustive else 5))
    disk = Disk(os.fsencode(t.folder / "w"))
    for moment, r in enumerate(log):
        disk.apply(r)
        if moment not in moments:
            continue
        t.tries += 1
        t.forget("w")
        put(t.rng, disk.top, t.folder / "w", "mixed")
        t.resume(args("w/a"), "whole", "w/a", "record", moment)
