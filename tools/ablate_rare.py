#!/usr/bin/env python3
"""What training on more of what is rare does to the errors: plain, undersampled, and data.rare.

    tools/ablate_rare.py --csv corpus/tracks.csv --audio corpus/audio --out ablation \\
        --models dense,passt --seeds 1,2,3 [--tracks N] [--epochs dense=10,passt=4]

Each seed splits, undersamples and trains anew. All variants of a model are measured on the same,
natural test split and take about as many steps. Prints a table in Markdown and writes it with all
figures to OUT/ablation.{md,json}. Runs that are there are not trained again.
"""
import argparse
import csv
import json
import math
import pathlib
import statistics
import subprocess

BIN_POINTS = 5
SETTINGS = {
    "dense": ["train.batch_size=512", "train.lr=1e-3", "schedule.kind=cosine"],
    "passt": ["model.preset=passt-xs", "data.seconds=1", "train.batch_size=32", "train.lr=2e-3",
              "schedule.kind=cosine", "schedule.warmup_epochs=1", "optim.weight_decay=0.01",
              "optim.clip_norm=1", "train.patchout_time=10", "train.patchout_freq=0"],
}
VARIANTS = {
    "plain": ["data.undersampled=false"],
    "undersampled": ["data.undersampled=true"],
    "smogn": ["data.undersampled=false", "data.rare=smogn"],
    "mixup": ["data.undersampled=false", "data.rare=mixup"],
}
OF_MODEL = {"dense": ["plain", "undersampled", "smogn"], "passt": ["plain", "undersampled", "mixup"]}


def first_tracks(source, target, count):
    """The rows of the first `count` different tracks."""
    with open(source, newline="", encoding="utf-8") as rows, \
            open(target, "w", newline="", encoding="utf-8") as out:
        reader, writer = csv.reader(rows), csv.writer(out)
        header = next(reader)
        writer.writerow(header)
        ids, seen = header.index("track_id" if "track_id" in header else "id"), set()
        for row in reader:
            if row[ids] not in seen and len(seen) == count:
                continue
            seen.add(row[ids])
            writer.writerow(row)


def errors(path):
    """Of predictions.csv: over the tracks, and as the mean over the popularity bins that have any."""
    bins, squares, absolutes = {}, [], []
    with open(path, newline="", encoding="utf-8") as rows:
        for row in csv.DictReader(rows):
            target, error = float(row["target"]), float(row["prediction"]) - float(row["target"])
            points = min(max((target + 0.5) * 100, 0), 99.999)
            bins.setdefault(int(points + 1e-4) // BIN_POINTS, []).append(error)
            squares.append(error * error)
            absolutes.append(abs(error))
    mean = statistics.fmean
    return {
        "rmse": math.sqrt(mean(squares)),
        "mae": mean(absolutes),
        "bin_rmse": math.sqrt(mean(mean(e * e for e in b) for b in bins.values())),
        "bin_mae": mean(mean(abs(e) for e in b) for b in bins.values()),
        "bins": len(bins),
        "n": len(squares),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--onpa", default="build/onpa")
    parser.add_argument("--csv", required=True, type=pathlib.Path)
    parser.add_argument("--audio", required=True, type=pathlib.Path)
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("--models", default="dense,passt")
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--tracks", type=int, default=0, help="of the CSV; 0: all")
    parser.add_argument("--undersample", default="median", help="as onpa prepare's")
    parser.add_argument("--epochs", default="dense=10,passt=4")
    args = parser.parse_args()
    epochs = {k: int(v) for k, v in (pair.split("=") for pair in args.epochs.split(","))}
    args.out.mkdir(parents=True, exist_ok=True)

    def onpa(*words):
        subprocess.run([args.onpa, *map(str, words)], check=True, stdout=subprocess.DEVNULL)

    table = args.csv
    if args.tracks:
        table = args.out / "tracks.csv"
        first_tracks(args.csv, table, args.tracks)
    found = {}
    for seed in map(int, args.seeds.split(",")):
        data = args.out / f"data{seed}"
        if not (data / "card.json").exists():
            onpa("prepare", "--csv", table, "--audio", args.audio, "--out", data,
                 "--undersample", args.undersample, "--seed", seed)
        tracks = json.loads((data / "card.json").read_text())["tracks"]
        for model in args.models.split(","):
            for variant in OF_MODEL[model]:
                run = args.out / f"{model}_{variant}_{seed}"
                length = epochs[model]
                if variant == "undersampled":
                    length = round(length * tracks["train"] / tracks["train_kept"])
                sets = [*SETTINGS[model], *VARIANTS[variant], f"train.seed={seed}",
                        f"train.epochs={length}", "train.eval_epochs=0", "train.checkpoint_epochs=0",
                        f"loader.cache_folder={(args.out / 'cache').absolute()}"]
                if not (run / "predictions.csv").exists():
                    onpa("train", model, "--data", data, "--run", run, "--quiet",
                         *(word for s in sets for word in ("--set", s)))
                    onpa("eval", "--run", run, "--data", data, "--out", run)
                found.setdefault(f"{model} {variant}", []).append(errors(run / "predictions.csv"))
                print(f"seed {seed} {model} {variant}: "
                      + " ".join(f"{k} {v:.4f}" for k, v in found[f"{model} {variant}"][-1].items()),
                      flush=True)

    lines = ["| model | trained on | RMSE | MAE | bin-balanced RMSE | bin-balanced MAE |",
             "|---|---|---|---|---|---|"]
    for name, results in found.items():
        cells = []
        for key in ("rmse", "mae", "bin_rmse", "bin_mae"):
            values = [r[key] for r in results]
            spread = statistics.stdev(values) if len(values) > 1 else 0
            cells.append(f"{statistics.fmean(values):.4f} ± {spread:.4f}")
        lines.append("| " + " | ".join([*name.split(" "), *cells]) + " |")
    text = "\n".join(lines) + "\n"
    (args.out / "ablation.md").write_text(text)
    (args.out / "ablation.json").write_text(json.dumps(found, indent=1) + "\n")
    print(text, end="")


if __name__ == "__main__":
    main()
