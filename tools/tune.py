#!/usr/bin/env python3
"""Searches the settings of a model: trials of `onpa train`, chosen by Optuna, compared on tracks that are held out of
the train split (data.validation). The test split is never looked at.

A trial whose error after an epoch is above the median of the others is stopped. Everything is in TUNING: the same
command goes on where one was stopped or killed, with --trials counting all starts together. The best settings go to
standard output and to TUNING/best.toml, which `onpa train --config` takes; TUNING/trials.csv lists all trials.

Ends with 0 when all trials are done; 75 after Ctrl-C, SIGTERM or SIGUSR1 (the same command goes on); 1 if no trial
came to an end; with onpa's code if settings or data are bad; 69 without Optuna (./dev setup study).
"""
import argparse
import csv
import fcntl
import hashlib
import io
import json
import math
import os
import pathlib
import re
import shutil
import signal
import sys
import threading
import time

FOLDER = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(FOLDER)]

import tune_space  # noqa: E402
from study_tools import (EXIT_CANNOT_CREATE, EXIT_CONFIG, EXIT_FAILED, EXIT_MISSING, EXIT_STOPPED,  # noqa: E402
                         EXIT_USAGE, ROOT, Parser, ToolError, make_folder, need, run_tool, write_atomic)
from tune_trials import Trial  # noqa: E402

# onpa's ends after which other settings may still do: 70 a bug, 80 diverged, 81 out of memory, 82 stalled; signals
# are negative. All others would end every trial.
FAILED_TRIAL = {70: "bug", 80: "diverged", 81: "out of memory", 82: "stalled"}
SETTING_VARIABLE = re.compile(r"ONPA_(MODEL|MEL|DATA|TRAIN|OPTIM|SCHEDULE|AVERAGE)_")
POLL_SECONDS = 0.1


def parse_arguments(arguments=None) -> argparse.Namespace:
    parser = Parser(prog="tune.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=("passt", "dense"))
    parser.add_argument("--data", type=pathlib.Path, required=True, help="data set folder (see onpa prepare)")
    parser.add_argument("--out", type=pathlib.Path, required=True, metavar="TUNING", help="folder of the search")
    parser.add_argument("--trials", type=int, default=50, help="in all, those of earlier starts included")
    parser.add_argument("--timeout", type=float, metavar="SECONDS",
                        help="stop then; what runs is gone on with at the next start")
    parser.add_argument("--jobs", type=int, help="trials at a time; default: as many as cores for dense, 1 for passt")
    parser.add_argument("--space", type=pathlib.Path, metavar="FILE", help="TOML of what to search (docs/tuning.md)")
    parser.add_argument("--config", type=pathlib.Path, help="settings of all trials, as of onpa train")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE",
                        help="the same, one setting; not searched then; may be repeated")
    parser.add_argument("--objective", choices=("rmse", "mae"), default="rmse")
    parser.add_argument("--validation", type=float, default=0.2, metavar="SHARE",
                        help="of the train split, held out to compare trials on")
    parser.add_argument("--seed", type=int, default=1, help="of what is tried")
    parser.add_argument("--study-db", type=pathlib.Path, metavar="FILE", help="default: TUNING/study.db (SQLite)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--onpa", type=pathlib.Path, help="the command; default: $ONPA, then build/onpa")
    parser.add_argument("--no-prune", action="store_true", help="train all trials to their end")
    parser.add_argument("--keep-runs", action="store_true", help="keep the checkpoints of all trials")
    args = parser.parse_args(arguments)
    if args.trials < 1:
        parser.error("--trials: want at least 1")
    if args.jobs is not None and args.jobs < 1:
        parser.error("--jobs: want at least 1")
    if not 0 < args.validation <= 0.5:
        parser.error("--validation: want more than 0 and at most 0.5")
    if args.timeout is not None and not args.timeout > 0:
        parser.error("--timeout: want more than 0 seconds")
    for text in args.set:
        key, equals, _ = text.partition("=")
        if not equals or key.count(".") != 1:
            parser.error(f"--set {text}: want section.key=value")
        if key == "data.validation":
            parser.error("--set data.validation: is what trials are compared on; see --validation")
    return args


def find_onpa(given: pathlib.Path | None) -> pathlib.Path:
    path = given or (pathlib.Path(os.environ["ONPA"]) if os.environ.get("ONPA") else ROOT / "build" / "onpa")
    if not (path.is_file() and os.access(path, os.X_OK)):
        raise ToolError(EXIT_MISSING, f"{path}: no such command; './dev build onpa' makes build/onpa, --onpa or $ONPA "
                                      "names another")
    return path.resolve()


def check_inputs(args: argparse.Namespace) -> None:
    for name in ("tracks.csv", "card.json"):
        if not (args.data / name).is_file():
            raise ToolError(EXIT_MISSING, f"{args.data / name}: no such file; onpa prepare makes a data set")
    for name in sorted(os.environ):
        if SETTING_VARIABLE.match(name):
            raise ToolError(EXIT_CONFIG, f"the environment has {name}, which trials would use and best.toml would "
                                         "lack; unset it and use --set")


def hold(folder: pathlib.Path):
    """One search in a folder at a time; the lock goes with the process."""
    try:
        lock = (folder / "lock").open("w")
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ToolError(EXIT_CANNOT_CREATE, f"{folder}: another search uses this folder") from error
    except OSError as error:
        raise ToolError(EXIT_CANNOT_CREATE, f"{folder}: cannot be written to: {error.strerror}") from error
    return lock


class Search:
    def __init__(self, args: argparse.Namespace, storage, space: tune_space.Space, onpa: pathlib.Path):
        self.args, self.storage, self.space = args, storage, space
        self.command = [str(onpa), "train", args.model, "--data", str(args.data.resolve()), "--device", args.device]
        self.jobs = args.jobs or (len(os.sched_getaffinity(0)) if args.model == "dense" else 1)
        self.running: dict[int, tuple[Trial, dict]] = {}
        self.default: dict | None = None
        self.stop = threading.Event()  # a signal, or the end of the time
        self.signalled = False
        self.began = time.monotonic()
        self.done_before = len(storage.trials())

    def identity(self) -> dict:
        """What trials of one search have in common."""
        a = self.args
        config = a.config.read_text(encoding="utf-8") if a.config else ""
        digest = hashlib.sha256((a.data / "tracks.csv").read_bytes()).hexdigest()
        return {"model": a.model, "data": digest, "space": repr(self.space), "--config": config,
                "--set": sorted(a.set), "--objective": a.objective, "--validation": a.validation}

    def check_identity(self) -> None:
        before, now = self.storage.attributes(), self.identity()
        changed = [key for key in now if key in before and before[key] != now[key]]
        if changed:
            raise ToolError(EXIT_CONFIG, f"{self.args.out} holds a search with another {', '.join(changed)}; use "
                                         "another --out")
        for key, value in now.items():
            if key not in before:
                self.storage.set_attribute(key, value)

    # One run of the command.
    def start(self, name: str, settings: dict) -> Trial:
        texts = [*self.args.set, f"data.validation={self.args.validation!r}"]
        given = {text.partition("=")[0] for text in self.args.set}
        if "train.keep" not in given:
            texts.append("train.keep=1")
        settings = dict(self.space.fixed) | settings
        cores = len(os.sched_getaffinity(0))
        threads = max(1, cores // self.jobs) if self.jobs > 1 and "ONPA_THREADS" not in os.environ else None
        config = self.args.config.resolve() if self.args.config else None
        return Trial(self.command, self.args.out / name, config, settings, texts, threads)

    def error_of(self, metrics: dict) -> float | None:
        """Of a line of metrics.jsonl: of the averaged weights, if there are any."""
        kind = self.args.objective
        return metrics.get(f"average_{kind}", metrics[f"validation_{kind}"])

    def check_end(self, trial: Trial, code: int) -> None:
        """Raises for an end that other settings would have too."""
        if code <= 0 or code in FAILED_TRIAL or code == EXIT_STOPPED:
            return
        raise ToolError(code, f"onpa train ended with {code}:\n{trial.last_lines()}\n(all of it is in {trial.log})")

    # The settings that nobody searched for: what the best has to beat.
    def run_default(self) -> None:
        file = self.args.out / "default.json"
        if file.exists():
            self.default = json.loads(file.read_text(encoding="utf-8"))
            return
        trial = self.start("default", {})
        while trial.exit_code() is None:
            if self.poll_time():
                trial.stop(signal.SIGTERM)
                trial.wait()
                return
            self.stop.wait(POLL_SECONDS)
        code = trial.wait()
        self.check_end(trial, code)
        if code == EXIT_STOPPED:  # by somebody else
            self.stop.set()
            self.signalled = True
            return
        self.default = self.info_of(trial, code, {})
        write_atomic(file, json.dumps(self.default, indent=2) + "\n")
        self.say(f"default settings: {self.show(self.default['value'])}, {self.default['seconds']:.3g} s")

    def info_of(self, trial: Trial, code: int, settings: dict) -> dict:
        report = trial.report()
        value = report.get(self.args.objective)
        return {"value": value, "exit_code": code, "settings": settings, "rmse": report.get("rmse"),
                "mae": report.get("mae"), "epoch": report.get("epoch"), "step": report.get("step"),
                "parameters": report.get("parameters"), "seconds": round(trial.seconds(), 3)}

    # All trials.
    def run(self) -> None:
        self.run_default()
        waiting = self.storage.interrupted()
        try:
            while not self.stop.is_set():
                while len(self.running) < self.jobs and (waiting or self.told() + len(self.running) < self.args.trials):
                    number, drawn = waiting.pop(0) if waiting else self.storage.ask()
                    settings = self.space.settings(drawn)
                    self.running[number] = (self.start(f"trials/{number:04d}", settings), settings)
                if not self.running:
                    break
                self.poll_time()
                self.look()
                self.stop.wait(POLL_SECONDS)
        finally:
            self.stop_running()

    def told(self) -> int:
        return len(self.storage.trials())

    def look(self) -> None:
        for number, (trial, settings) in list(self.running.items()):
            code = trial.exit_code()  # before its metrics, so that none is missed
            for epoch, metrics in trial.evaluations():
                value = self.error_of(metrics)
                if value is None or trial.given_up:
                    continue
                if self.storage.report(number, epoch, value) and code is None and not self.args.no_prune:
                    trial.given_up = True
                    trial.stop(signal.SIGUSR1)
            if code is not None:
                self.end(number, trial, settings, trial.wait())

    def end(self, number: int, trial: Trial, settings: dict, code: int) -> None:
        if code == EXIT_STOPPED and not trial.given_up:  # by somebody else: it is gone on with
            self.stop.set()
            self.signalled = True
            del self.running[number]
            return
        self.check_end(trial, code)
        info = self.info_of(trial, code, settings)
        state = "pruned" if code == EXIT_STOPPED else "complete" if code == 0 and info["value"] is not None else "failed"
        self.storage.tell(number, state, info["value"] if state == "complete" else None, info)
        del self.running[number]
        self.report_end(number, state, info)
        self.write_table()
        self.tidy()

    def tidy(self) -> None:
        """Only the best trial keeps its checkpoints."""
        if self.args.keep_runs:
            return
        best = self.best()
        for trial in self.storage.trials():
            if best is None or trial["number"] != best["number"]:
                shutil.rmtree(self.args.out / f"trials/{trial['number']:04d}/run/checkpoints", ignore_errors=True)

    def poll_time(self) -> bool:
        if self.args.timeout is not None and time.monotonic() - self.began > self.args.timeout:
            self.stop.set()
        return self.stop.is_set()

    def stop_running(self) -> None:
        for trial, _ in self.running.values():
            trial.stop(signal.SIGTERM)
        for trial, _ in self.running.values():
            trial.wait()

    # What is said and written.
    def say(self, text: str) -> None:
        sys.stderr.write(f"tune: {text}\n")
        sys.stderr.flush()

    def show(self, value: float | None) -> str:
        return f"validation {self.args.objective.upper()} {value:.6f}" if value is not None else "no error"

    def report_end(self, number: int, state: str, info: dict) -> None:
        if state == "failed":
            code = info["exit_code"]
            end = FAILED_TRIAL.get(code, f"signal {-code}" if code < 0 else "an error that is not finite")
        else:
            end = self.show(info["value"]) + (f", given up after epoch {info['epoch']}" if state == "pruned" else "")
        best, told = self.best(), self.told()
        left = self.args.trials - told
        spent = (time.monotonic() - self.began) / max(1, told - self.done_before)
        text = f"trial {number}: {end}, {info['seconds']:.3g} s"
        if best is not None:
            text += f"; best {best['value']:.6f} (trial {best['number']})"
        self.say(f"{text}; {told} of {self.args.trials}, about {left * spent / 60:.2g} min left")

    def best(self) -> dict | None:
        complete = [t for t in self.storage.trials() if t["state"] == "complete" and math.isfinite(t["value"])]
        return min(complete, key=lambda t: (t["value"], t["number"]), default=None)

    def write_table(self) -> None:
        """TUNING/trials.csv: the default settings, then all trials."""
        keys = self.space.keys()
        columns = ["rmse", "mae", "epoch", "step", "parameters", "seconds", "exit_code"]
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["trial", "state", *columns, *keys])
        rows = [("default", "complete" if self.default["exit_code"] == 0 else "failed", self.default)] \
            if self.default else []
        rows += [(t["number"], t["state"], t["info"]) for t in sorted(self.storage.trials(), key=lambda t: t["number"])]
        for name, state, info in rows:
            settings = [info["settings"].get(k) for k in keys]
            writer.writerow([name, state, *(info[c] for c in columns),
                             *("" if v is None else tune_space.set_text(v) for v in settings)])
        write_atomic(self.args.out / "trials.csv", text.getvalue())

    def write_best(self) -> str | None:
        """TUNING/best.toml, and its text; None if no trial came to an end."""
        best = self.best()
        default = self.default["value"] if self.default else None
        if best is None and default is None:
            return None
        won = best is not None and (default is None or best["value"] < default)
        folder = self.args.out / (f"trials/{best['number']:04d}" if won else "default")
        resolved = tune_space.flat(tune_space.read_toml(folder / "run" / "config.resolved.toml", "settings file"))
        keys = [text.partition("=")[0] for text in self.args.set] + [k for k, _ in self.space.fixed]
        if self.args.config:
            keys += tune_space.flat(tune_space.read_toml(self.args.config, "settings file"))
        keys += best["info"]["settings"] if won else []
        chosen = {key: resolved[key] for key in resolved if key in keys and key != "data.validation"}
        count = f"{self.told()} trials of {self.args.model}"
        first = f"The best of {count}: trial {best['number']}, {self.show(best['value'])}" if won else \
            f"None of {count} was better than the settings that they began with, {self.show(default)}"
        if won:
            first += f" (default settings: {default:.6f})" if default is not None else ""
        text = f"# {first}.\n# Chosen on tracks held out of the train split (data.validation={self.args.validation!r}); " \
               "the test split was not used.\n" + tune_space.to_toml(chosen)
        write_atomic(self.args.out / "best.toml", text)
        return text


def catch_signals(search: Search) -> None:
    def handle(number, frame):
        del frame
        if search.signalled and number == signal.SIGINT:  # a second Ctrl-C: no waiting for checkpoints
            for trial, _ in search.running.values():
                trial.stop(signal.SIGKILL)
        search.signalled = True
        search.stop.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, handle)


def main(arguments=None, make_storage=None) -> int:
    args = parse_arguments(arguments)
    if args.config and not args.config.is_file():
        raise ToolError(EXIT_MISSING, f"{args.config}: no such settings file")
    space = tune_space.load_space(args.space, args.model)
    keys = {text.partition("=")[0] for text in args.set}
    space = space.without(keys)
    if not space.params:
        raise ToolError(EXIT_USAGE, "--set fixes all that was to be searched")
    check_inputs(args)
    onpa = find_onpa(args.onpa)
    if make_storage is None:
        need("optuna")
        from tune_storage import OptunaStorage as make_storage
    make_folder(args.out)
    lock = hold(args.out)
    storage = make_storage((args.study_db or args.out / "study.db").resolve(), space, args.seed)
    search = Search(args, storage, space, onpa)
    search.check_identity()
    catch_signals(search)
    if search.done_before:
        search.say(f"going on after {search.done_before} trials in {args.out}")
    search.run()
    search.write_table()
    text = search.write_best()
    lock.close()
    if search.signalled:
        search.say(f"stopped with {search.told()} of {args.trials} trials done; the same command goes on")
        return EXIT_STOPPED
    if text is None:
        search.say(f"no trial came to an end; see {args.out / 'trials.csv'}")
        return EXIT_FAILED
    sys.stdout.write(text)
    search.say(f"compared on {args.validation:.0%} of the train split, held out; the test split was not used")
    search.say(f"next: {' '.join(search.command[:3])} --data {args.data} --run RUN --config {args.out / 'best.toml'}")
    return 0


if __name__ == "__main__":
    run_tool("tune", main)
