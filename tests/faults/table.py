#!/usr/bin/env python3
"""Writes docs/faults.md from what `run.py --results FILE` has recorded.

usage: table.py RESULTS.json [WHEN] > docs/faults.md
WHEN: which commits the counts are of, as a sentence.
"""
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from harness import REGISTRY  # noqa: E402
from run import GROUPS, load_groups  # noqa: E402

HEAD = """# Faults that a training job survives

Each row was provoked on the real command, as often as the third column says: by `./dev test faults` (all) and by `./dev test` (fast). Every
test checks the exit code, that no process and no temporary file is left, and that the cause is named on stderr. "Same bits" means weights, moments
and averages equal byte for byte to those of a run that was never disturbed, and the same lines of metrics. How a scheduler should take the exit codes:
[cluster.md](cluster.md).

Not provoked yet: what needs a real GPU (its errors, NCCL's networks), network file systems, hosts that are really several, a fault a minute for
a day.

Made by `tests/faults/table.py` from what `run.py --results` records."""

TITLES = {"checkpoints": "Checkpoints", "power_loss": "Power cuts", "signals": "Signals", "crashes": "Crashes", "decoders": "Decoders",
          "limits": "Memory, threads, descriptors", "values": "Values that are not finite", "tracks": "Audio and tables",
          "settings": "Settings", "surroundings": "Surroundings", "resume": "Resumed with something else",
          "ranks": "Several ranks", "gpu": "Memory of a GPU (simulated)"}

# Faults that tests beside the library's parts provoke, and that are not provoked again.
ELSEWHERE = (
    ("SIGKILL, ENOSPC, EIO at each file operation of one save, in the library", "older checkpoints whole; nothing left over",
     "nn.CheckpointFaults.KilledAtEveryOperation, .DiskFullAtEveryOperation"),
    ("one bit flipped at every seventh byte of a checkpoint, at each of its manifest", "refused",
     "nn.Checkpoint.EveryFlippedBitIsDetected"),
    ("a checkpoint without manifest, without a file, cut, with infinity; names that lead out of its folder", "passed over",
     "nn.Checkpoint.FindSkipsWhatIsNotWhole, .ManifestNamesStayInTheFolder"),
    ("full disk at operations on every other kind of file: data sets, tables, arrays, events, cache", "old files stay whole; 73 or 74",
     "apps.WriteFaults"),
    ("a small real disk that fills up", "as above", "apps.FullDisk"),
    ("a lock of a dead process, of another host, a folder that cannot be written to", "taken over; refused", "apps.RunDir"),
    ("bad files in the middle of an epoch, too many, repaired later", "left out; 65 with a checkpoint; same bits", "apps.TrainPasst"),
    ("bad files, their limit, errors of loader threads", "listed once; named", "data.AudioLoaderTest"),
    ("a cache entry that is damaged, cut, stale, written by many processes", "decoded again", "data.PcmCache"),
    ("truncated, broken, renamed and hostile audio files", "refused with a reason", "audio tests"),
    ("ranks that throw, abort, exit, die or disagree in a collective", "mpirun ends, no process is left", "dist.mpi.ends"),
    ("batch too large for the GPU's memory; not finite steps there", "81 naming the largest batch; skipped", "apps.TrainGpu (in the simulator)"),
)


def main() -> int:
    results = json.loads(Path(sys.argv[1]).read_text())
    load_groups()
    print(HEAD, *sys.argv[2:], end="\n\n")
    total = {"exhaustive": 0, "fast": 0}
    for group in GROUPS:
        rows = [t for t in REGISTRY if t.group == group and t.name in results]
        if not rows:
            continue
        print(f"## {TITLES[group]}\n\n| fault | outcome | tried (fast) | exit code | test |\n|---|---|---|---|---|")
        for test in rows:
            counts = dict(results[test.name])
            if not test.fast:
                counts.pop("fast", None)
            for column in total:
                total[column] += counts.get(column, 0)
            tried = f"{counts.get('exhaustive', '-')} ({counts.get('fast', '-')})"
            print(f"| {test.title} | {test.outcome} | {tried} | {test.code} | `{test.name}` |")
        print()
    print(f"In all {total['exhaustive']} faults, {total['fast']} of them in the fast subset.\n")
    print("## Provoked elsewhere\n\n| fault | outcome | test |\n|---|---|---|")
    for fault, outcome, test in ELSEWHERE:
        print(f"| {fault} | {outcome} | {test} |")
    missing = [t.name for t in REGISTRY if t.name not in results]
    if missing:
        print(f"not in the table, as they did not run: {', '.join(missing)}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
