"""Tests of tools/tune.py and tools/peers.py. What needs Optuna or scikit-learn is skipped where they are missing
(./dev setup study installs them); everything else runs with Python alone."""
import csv
import importlib.util
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
import unittest

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TOOLS = ROOT / "tools"
ONPA = os.environ.get("ONPA_TEST_COMMAND", str(ROOT / "build" / "onpa"))
sys.path[:0] = [str(TOOLS)]

import study_tools  # noqa: E402
import tune_space  # noqa: E402


def python_with(*modules: str) -> str | None:
    """A Python that has all of them: this one, or that of ./dev setup study."""
    if all(importlib.util.find_spec(name) for name in modules):
        return sys.executable
    python = study_tools.venv_python()
    check = "import importlib.util, sys; sys.exit(not all(importlib.util.find_spec(n) for n in sys.argv[1:]))"
    if os.access(python, os.X_OK) and subprocess.run([python, "-c", check, *modules]).returncode == 0:
        return str(python)
    return None


WITH_OPTUNA = python_with("optuna")
WITH_SKLEARN = python_with("sklearn", "pandas")
HINT = "; ./dev setup study installs it"


def environment(**more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("ONPA")}
    return kept | {"PYTHONDONTWRITEBYTECODE": "1"} | more


class Folder(unittest.TestCase):
    def setUp(self):
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.folder = pathlib.Path(holder.name)
        self.data = self.folder / "data"
        self.data.mkdir()
        (self.data / "card.json").write_text('{"feature_names": ["a"]}')
        (self.data / "tracks.csv").write_text("id\n")

    def write_fake_onpa(self) -> str:
        path = self.folder / "onpa"
        path.write_text(f"#!/bin/sh\nexec {sys.executable} {HERE / 'fake_onpa.py'} \"$@\"\n")
        path.chmod(0o755)
        return str(path)

    def table(self, out: pathlib.Path) -> list[dict]:
        with (out / "trials.csv").open(newline="") as file:
            return list(csv.DictReader(file))


class SpaceTest(unittest.TestCase):
    def problem(self, text: str) -> str:
        with self.assertRaises(study_tools.ToolError) as caught:
            tune_space.parse_space(text, "space.toml")
        self.assertEqual(caught.exception.code, 78)
        return str(caught.exception)

    def test_built_in_spaces(self):
        dense = tune_space.load_space(None, "dense")
        self.assertEqual([p.name for p in dense.params],
                         ["model.hidden.depth", "log2(model.hidden.width)", "model.dropout", "train.lr",
                          "log2(train.batch_size)", "optim.weight_decay"])
        drawn = {"model.hidden.depth": 3, "log2(model.hidden.width)": 7, "model.dropout": 0.25, "train.lr": 1e-3,
                 "log2(train.batch_size)": 12, "optim.weight_decay": 1e-5}
        self.assertEqual(dense.settings(drawn), {"model.hidden": [128, 128, 128], "model.dropout": 0.25,
                                                 "train.lr": 1e-3, "train.batch_size": 4096,
                                                 "optim.weight_decay": 1e-5})
        self.assertEqual(next(p for p in dense.params if p.part == "width").bounds(), (5, 10))
        self.assertIn("train.lr", tune_space.load_space(None, "passt").keys())
        self.assertNotIn("train.lr", dense.without(["train.lr"]).keys())

    def test_wrong_spaces_are_named(self):
        for text, want in (
                ("x = 1", "no table [x]"),
                ("[space]", "names no setting"),
                ("[space", "space.toml"),
                ('[space]\nlr = {low = 1, high = 2}', 'lr: want a quoted "section.key"'),
                ('[space]\n"train.lr" = {low = 2, high = 1}', "train.lr: low 2 is above high 1"),
                ('[space]\n"train.lr" = {low = 0.0, high = 1.0, scale = "log"}', "more than 0"),
                ('[space]\n"train.lr" = {low = 1, high = 2, scale = "cubic"}', "want linear, log, power of 2"),
                ('[space]\n"train.lr" = {low = 3, high = 8, scale = "power of 2"}', "powers of 2"),
                ('[space]\n"train.lr" = {low = true, high = 2}', "low: want a number"),
                ('[space]\n"train.lr" = {low = nan, high = 2.0}', "low: want a number"),
                ('[space]\n"train.lr" = {low = 1, high = 2, step = 1}', "no key 'step'"),
                ('[space]\n"train.lr" = {choices = []}', "want a list of values"),
                ('[space]\n"train.lr" = {choices = [1], low = 1}', "no other key"),
                ('[space]\n"model.hidden" = {depth = {low = 0, high = 2}, width = {low = 1, high = 2}}', "at least 1"),
                ('[space]\n"data.validation" = {low = 0.1, high = 0.2}', "see --validation"),
                ('[space]\n"train.lr" = {choices = [1]}\n[fixed]\n"train.lr" = 1', "in [space] and in [fixed]")):
            with self.subTest(text=text):
                problem = self.problem(text)
                self.assertIn("space.toml", problem)
                self.assertIn(want, problem)

    def test_settings_are_read_back_as_toml(self):
        settings = {"model.hidden": [64, 64], "model.activation": 'a"b\\c\nd', "train.lr": 1.5e-5, "train.epochs": 3,
                    "optim.nesterov": True, "model.dropout": 0.0}
        self.assertEqual(tune_space.flat(tomllib.loads(tune_space.to_toml(settings))), settings)

    def test_files_are_whole_or_as_they_were(self):
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder) / "a"
            study_tools.write_atomic(file, "one")
            study_tools.write_atomic(file, "two")
            self.assertEqual(file.read_text(), "two")
            self.assertEqual(os.listdir(folder), ["a"])
            with self.assertRaises(study_tools.ToolError) as caught:
                study_tools.write_atomic(pathlib.Path(folder) / "none" / "a", "x")
            self.assertEqual(caught.exception.code, 74)


class CommandLine(Folder):
    def run_tool(self, tool: str, *arguments: str, python=(sys.executable,), **more: str):
        return subprocess.run([*python, str(TOOLS / tool), *arguments], capture_output=True, text=True,
                              env=environment(**more), timeout=60)

    def tune(self, *arguments: str, **more: str):
        return self.run_tool("tune.py", "dense", "--data", str(self.data), "--out", str(self.folder / "out"),
                             *arguments, **more)

    def expect(self, result, code: int, want: str):
        self.assertEqual(result.returncode, code, result.stderr)
        self.assertIn(want, result.stderr)
        self.assertNotIn("Traceback", result.stderr)
        self.assertEqual(result.stdout, "")

    def test_wrong_arguments(self):
        self.expect(self.run_tool("tune.py"), 64, "required")
        self.expect(self.tune("--trials", "0"), 64, "--trials")
        self.expect(self.tune("--jobs", "0"), 64, "--jobs")
        self.expect(self.tune("--validation", "0"), 64, "--validation")
        self.expect(self.tune("--set", "lr=1"), 64, "section.key=value")
        self.expect(self.tune("--set", "data.validation=0.1"), 64, "--validation")
        self.expect(self.run_tool("peers.py"), 64, "required")

    def test_missing_files(self):
        self.expect(self.tune("--onpa", str(self.folder / "none")), 66, "no such command")
        self.expect(self.tune("--space", str(self.folder / "none.toml")), 66, "no such space file")
        self.expect(self.tune("--config", str(self.folder / "none.toml")), 66, "no such settings file")
        (self.data / "card.json").unlink()
        self.expect(self.tune("--onpa", self.write_fake_onpa()), 66, "card.json")
        self.expect(self.run_tool("peers.py", str(self.data), "--out", str(self.folder / "peers")), 66, "card.json")

    def test_settings_in_the_environment_are_refused(self):
        self.expect(self.tune("--onpa", self.write_fake_onpa(), ONPA_TRAIN_LR="1"), 78, "ONPA_TRAIN_LR")

    def test_missing_modules_are_a_sentence(self):
        # -S hides what is installed beside Python itself.
        bare = (sys.executable, "-S")
        nowhere = {"ONPA_STUDY_VENV": str(self.folder / "none")}
        tune = self.run_tool("tune.py", "dense", "--data", str(self.data), "--out", str(self.folder / "out"), "--onpa",
                             self.write_fake_onpa(), python=bare, **nowhere)
        self.expect(tune, 69, "./dev setup study")
        self.assertIn("optuna", tune.stderr)
        peers = self.run_tool("peers.py", str(self.data), "--out", str(self.folder / "peers"), python=bare, **nowhere)
        self.expect(peers, 69, "./dev setup study")
        self.assertFalse((self.folder / "out").exists())


class SearchTest(Folder):
    """tune.py with a storage and an onpa that stand in for the real ones."""

    def command(self, *arguments: str) -> list[str]:
        space = self.folder / "space.toml"
        space.write_text('[space]\n"train.lr" = {low = 1e-5, high = 1e-2, scale = "log"}\n[fixed]\n"train.epochs" = 4\n')
        return [sys.executable, str(HERE / "fake_storage.py"), "dense", "--data", str(self.data), "--out",
                str(self.folder / "out"), "--onpa", self.write_fake_onpa(), "--space", str(space), *arguments]

    def search(self, planted: list[float], *arguments: str, **more: str):
        arguments = ("--trials", str(len(planted)), "--jobs", "2", *arguments)
        return subprocess.run(self.command(*arguments), capture_output=True, text=True, timeout=120,
                              env=environment(FAKE_PLANTED=json.dumps(planted), **more))

    def starts(self, name: str) -> list[dict]:
        lines = (self.folder / "out" / name / "starts").read_text().splitlines()
        return [json.loads(line) for line in lines]

    def test_the_best_trial_wins_and_failed_ones_do_not_end_the_search(self):
        result = self.search([5e-3, 0.011, 1.1e-3, 0.014, 2e-3], "--set", "train.loss=huber", "--set", "train.lr_x=1")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertNotIn("Traceback", result.stderr)
        best = tomllib.loads(result.stdout)
        # 1.1e-3 against the default of exactly 1e-3, which cannot be beaten here.
        self.assertNotIn("lr", best["train"])
        self.assertIn("None of 5 trials of dense was better", result.stdout)
        rows = {row["trial"]: row for row in self.table(self.folder / "out")}
        self.assertEqual([rows[str(n)]["state"] for n in range(5)],
                         ["complete", "failed", "complete", "failed", "complete"])
        self.assertEqual([rows[str(n)]["exit_code"] for n in range(5)], ["0", "80", "0", "81", "0"])
        self.assertAlmostEqual(float(rows["2"]["rmse"]), 0.1001)
        self.assertEqual(rows["2"]["train.lr"], "0.0011")
        self.assertEqual(best, {"train": {"epochs": 4, "loss": "huber", "lr_x": 1}})

    def test_best_toml_holds_what_was_set_and_what_was_found(self):
        config = self.folder / "base.toml"
        config.write_text("[train]\nlr = 0.005\n[optim]\nbeta1 = 0.8\n")
        result = self.search([4e-3, 1.2e-3, 6e-3], "--config", str(config), "--set", "train.seed=3")
        self.assertEqual(result.returncode, 0, result.stderr)
        best = self.folder / "out" / "best.toml"
        self.assertEqual(best.read_text(), result.stdout)
        self.assertEqual(tomllib.loads(result.stdout),
                         {"train": {"lr": 1.2e-3, "epochs": 4, "seed": 3}, "optim": {"beta1": 0.8}})
        self.assertIn("the test split was not used", result.stdout)
        self.assertIn("default settings: 0.104", result.stdout)
        for name in ("default", "trials/0000", "trials/0002"):
            settings = self.starts(name)[0]["settings"]
            self.assertEqual(settings["data.validation"], 0.2)
        self.assertFalse((self.folder / "out/trials/0000/run/checkpoints").exists())
        self.assertTrue((self.folder / "out/trials/0001/run/checkpoints").exists())

    def test_bad_data_or_settings_end_the_search_with_onpas_code(self):
        for planted, code in ((0.012, 65), (0.013, 78)):
            with self.subTest(code=code), tempfile.TemporaryDirectory() as out:
                result = self.search([2e-3, planted, 2e-3, 2e-3], "--out", out, "--jobs", "1")
                self.assertEqual(result.returncode, code, result.stderr)
                self.assertIn(f"planted end {code}", result.stderr)
                self.assertFalse((pathlib.Path(out) / "trials" / "0002").exists())

    def test_trials_that_are_not_worth_it_are_given_up(self):
        result = self.search([1.2e-3, 0.5, 1.1e-3], FAKE_PRUNE="0.3", FAKE_SECONDS="0.3")
        self.assertEqual(result.returncode, 0, result.stderr)
        rows = {row["trial"]: row for row in self.table(self.folder / "out")}
        self.assertEqual([rows[str(n)]["state"] for n in range(3)], ["complete", "pruned", "complete"])
        self.assertEqual(rows["1"]["exit_code"], "75")
        self.assertLess(int(rows["1"]["epoch"]), 4)

    def test_killed_search_goes_on_and_counts_no_trial_twice(self):
        planted = [2e-3, 3e-3, 4e-3, 5e-3]
        first = subprocess.Popen(self.command("--trials", "4", "--jobs", "2"), stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE, text=True,
                                 env=environment(FAKE_PLANTED=json.dumps(planted), FAKE_SECONDS="0.4"))
        running = [self.folder / f"out/trials/{n:04d}/run/metrics.jsonl" for n in (0, 1)]
        until = time.monotonic() + 60
        while not all(path.exists() for path in running) and time.monotonic() < until:
            time.sleep(0.02)
        first.kill()
        first.communicate()
        again = self.search(planted)
        self.assertEqual(again.returncode, 0, again.stderr)
        rows = self.table(self.folder / "out")
        self.assertEqual([row["trial"] for row in rows], ["default", "0", "1", "2", "3"])
        self.assertEqual([row["epoch"] for row in rows], ["4"] * 5)
        for number in (0, 1):  # gone on with, under the same number, not begun anew
            self.assertEqual(len(self.starts(f"trials/{number:04d}")), 2)
            text = (self.folder / f"out/trials/{number:04d}/run/metrics.jsonl").read_text()
            epochs = [json.loads(line)["epoch"] for line in text.splitlines()]
            self.assertEqual(epochs, [1, 2, 3, 4])
        self.assertEqual(len(self.starts("default")), 1)
        # What is done is not done again, more trials are.
        more = self.search(planted + [1.5e-3])
        self.assertEqual(more.returncode, 0, more.stderr)
        self.assertEqual(len(self.starts("trials/0003")), 1)
        self.assertEqual(len(self.table(self.folder / "out")), 6)

    def test_signals_stop_cleanly_and_the_search_can_go_on(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            with self.subTest(signal=number), tempfile.TemporaryDirectory() as out:
                planted = json.dumps([2e-3, 3e-3])
                started = subprocess.Popen(self.command("--trials", "2", "--jobs", "2", "--out", out),
                                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                           env=environment(FAKE_PLANTED=planted, FAKE_SECONDS="0.3"))
                until = time.monotonic() + 60
                while not (pathlib.Path(out) / "trials/0001/starts").exists() and time.monotonic() < until:
                    time.sleep(0.02)
                time.sleep(0.2)
                started.send_signal(number)
                output, errors = started.communicate(timeout=60)
                self.assertEqual(started.returncode, 75, errors)
                self.assertEqual(output, "")
                self.assertIn("the same command goes on", errors)
                self.assertNotIn("Traceback", errors)
                for n in (0, 1):
                    pid = json.loads((pathlib.Path(out) / f"trials/{n:04d}/starts").read_text())["pid"]
                    self.assertFalse(os.path.exists(f"/proc/{pid}"))

    def test_time_runs_out(self):
        result = self.search([2e-3] * 50, "--timeout", "1.5", FAKE_SECONDS="0.1")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertLess(len(self.table(self.folder / "out")), 50)
        tomllib.loads(result.stdout)

    def test_another_search_in_the_folder_is_refused(self):
        self.assertEqual(self.search([2e-3]).returncode, 0)
        for changed in (["--set", "train.epochs=9"], ["--validation", "0.3"], ["--objective", "mae"]):
            result = self.search([2e-3, 3e-3], *changed)
            self.assertEqual(result.returncode, 78, result.stderr)
            self.assertIn("another", result.stderr)
        (self.data / "tracks.csv").write_text("id\nother\n")
        result = self.search([2e-3, 3e-3])
        self.assertEqual(result.returncode, 78, result.stderr)
        self.assertIn("data", result.stderr)

    def test_all_trials_fail_and_the_default_is_left(self):
        result = self.search([0.011, 0.011])
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("None of 2 trials", result.stdout)


def small_table(rows: int = 600) -> str:
    """Layout of a public table: two features tell most of the popularity."""
    import random
    draw = random.Random(5)
    text = "track_id,genre,popularity,danceability,energy,loudness\n"
    for i in range(rows):
        x = [draw.random() for _ in range(3)]
        popularity = round(min(100, max(0, 60 * x[0] + 30 * x[1] ** 2 + draw.gauss(0, 5))))
        text += f"id{i:05d},pop,{popularity},{x[0]:.4f},{x[1]:.4f},{-20 * x[2]:.3f}\n"
    return text


class RealData(Folder):
    def setUp(self):
        super().setUp()
        if not os.access(ONPA, os.X_OK):
            self.skipTest(f"{ONPA} is not built")
        (self.folder / "table.csv").write_text(small_table())
        self.data = self.folder / "prepared"
        self.onpa("prepare", "--csv", str(self.folder / "table.csv"), "--out", str(self.data), "--features",
                  "danceability,energy,loudness", "--undersample", "q0.5")

    def onpa(self, *arguments: str):
        result = subprocess.run([ONPA, *arguments], capture_output=True, text=True, env=environment(), timeout=120)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result

    def tool(self, python: str, tool: str, *arguments: str):
        return subprocess.run([python, str(TOOLS / tool), *arguments], capture_output=True, text=True,
                              env=environment(), timeout=300)


@unittest.skipUnless(WITH_OPTUNA, "no Optuna" + HINT)
class RealSearch(RealData):
    SETTINGS = ("--set", "train.epochs=3", "--set", "train.batch_size=64")

    def test_finds_settings_that_onpa_takes(self):
        space = self.folder / "space.toml"
        space.write_text('[space]\n"model.hidden" = {depth = {low = 1, high = 2}, width = {low = 8, high = 16, '
                         'scale = "power of 2"}}\n"train.lr" = {low = 1e-4, high = 3e-2, scale = "log"}\n'
                         '"train.loss" = {choices = ["mse", "huber"]}\n')
        out = self.folder / "tuning"

        def tune(trials: int):
            return self.tool(WITH_OPTUNA, "tune.py", "dense", "--data", str(self.data), "--out", str(out), "--onpa", ONPA,
                             "--space", str(space), "--trials", str(trials), "--jobs", "2", *self.SETTINGS)

        first = tune(3)
        self.assertEqual(first.returncode, 0, first.stderr)
        self.assertEqual(len(self.table(out)), 4)
        result = tune(6)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertNotIn("Warning", result.stderr)
        rows = self.table(out)
        self.assertEqual([row["trial"] for row in rows], ["default", "0", "1", "2", "3", "4", "5"])
        rates = [row["train.lr"] for row in rows[1:]]
        self.assertEqual(len(set(rates)), len(rates))  # a search that goes on draws other values
        best = tomllib.loads(result.stdout)
        errors = [float(row["rmse"]) for row in rows if row["state"] == "complete"]
        self.assertIn(f"{min(errors):.6f}", result.stdout.splitlines()[0])
        self.assertNotIn("data", best)
        run = self.folder / "run"
        self.onpa("train", "dense", "--data", str(self.data), "--run", str(run), "--config", str(out / "best.toml"))
        resolved = tomllib.loads((run / "config.resolved.toml").read_text())
        for section, keys in best.items():
            for key, value in keys.items():
                self.assertEqual(resolved[section][key], value)
        self.assertEqual(resolved["data"]["validation"], 0)
        log = "".join(path.read_text() for path in out.rglob("metrics.jsonl"))
        self.assertIn("validation_rmse", log)
        self.assertNotIn("test_rmse", log)

    def test_diverged_trials_are_counted_and_passed_over(self):
        space = self.folder / "space.toml"
        space.write_text('[space]\n"train.lr" = {choices = [10.0, 0.01]}\n[fixed]\n"optim.kind" = "sgd"\n'
                         '"optim.momentum" = 0.99\n"train.max_nonfinite" = 1\n')
        result = self.tool(WITH_OPTUNA, "tune.py", "dense", "--data", str(self.data), "--out",
                           str(self.folder / "tuning"), "--onpa", ONPA, "--space", str(space), "--trials", "8",
                           "--set", "train.epochs=20", "--set", "train.batch_size=16", "--no-prune", "--seed", "1")
        self.assertEqual(result.returncode, 0, result.stderr)
        rows = self.table(self.folder / "tuning")
        self.assertEqual(len(rows), 9)
        for row in rows[1:]:
            self.assertEqual((row["state"], row["exit_code"]),
                             ("failed", "80") if row["train.lr"] == "10.0" else ("complete", "0"))
        self.assertEqual({row["train.lr"] for row in rows[1:]}, {"10.0", "0.01"})

    def test_the_storage_goes_on_with_what_was_interrupted(self):
        script = (
            "import pathlib, sys\n"
            f"sys.path[:0] = [{str(TOOLS)!r}]\n"
            "import tune_space\n"
            "from tune_storage import OptunaStorage\n"
            "space = tune_space.load_space(None, 'dense')\n"
            "file = pathlib.Path(sys.argv[1])\n"
            "first = OptunaStorage(file, space, 1, 2)\n"
            "asked = [first.ask() for _ in range(8)]\n"
            "assert first.interrupted() == asked\n"
            "for number in range(6):\n"
            "    for epoch in (1, 2, 3): assert not first.report(number, epoch, 0.1)\n"
            "    first.tell(number, 'complete', 0.1, {'n': number})\n"
            "first.report(6, 1, 0.2)\n"
            "again = OptunaStorage(file, space, 1, 2)\n"
            "assert again.interrupted() == asked[6:], again.interrupted()\n"
            "assert [t['number'] for t in again.trials()] == list(range(6))\n"
            "again.report(6, 1, 0.2)\n"
            "assert again.report(6, 2, 0.2)\n"
            "assert not again.report(7, 2, 0.05)\n"
            "again.tell(6, 'pruned', None, {'n': 6})\n"
            "again.tell(7, 'failed', None, {'n': 7})\n"
            "assert [t['state'] for t in again.trials()] == ['complete'] * 6 + ['pruned', 'failed']\n"
            "assert again.interrupted() == []\n"
            "assert again.ask()[0] == 8\n")
        result = subprocess.run([WITH_OPTUNA, "-c", script, str(self.folder / "study.db")], capture_output=True,
                                text=True, env=environment(), timeout=120)
        self.assertEqual(result.returncode, 0, result.stderr)
        # A file that is no data base is named.
        (self.folder / "bad.db").write_text("no data base, but longer than the header of one would be. " * 20)
        bad = self.tool(WITH_OPTUNA, "tune.py", "dense", "--data", str(self.data), "--out", str(self.folder / "t"),
                        "--onpa", ONPA, "--study-db", str(self.folder / "bad.db"))
        self.assertEqual(bad.returncode, 65, bad.stderr)
        self.assertIn("bad.db", bad.stderr)
        self.assertNotIn("Traceback", bad.stderr)


@unittest.skipUnless(WITH_SKLEARN, "no scikit-learn or no pandas" + HINT)
class PeersTest(RealData):
    def peers(self, *arguments: str):
        return self.tool(WITH_SKLEARN, "peers.py", str(self.data), "--out", str(self.folder / "peers"), *arguments)

    def test_baselines_are_those_of_onpa(self):
        result = self.peers("--seed", "2")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(result.stderr, "")
        run = self.folder / "run"
        self.onpa("train", "dense", "--data", str(self.data), "--run", str(run), "--set", "train.epochs=1")
        self.onpa("eval", "--run", str(run))
        table = json.loads((run / "table1.json").read_text())
        ours = {row["model"]: row for row in table["rows"]}
        with (self.data / "tracks.csv").open(newline="") as file:
            tracks = {row["id"]: row for row in csv.DictReader(file)}
        test = [t["id"] for t in tracks.values() if t["split"] == "test"]
        kept = sum(t["split"] == "train" and t["kept"] == "1" for t in tracks.values())
        self.assertLess(kept, sum(t["split"] == "train" for t in tracks.values()))
        for name, model in (("constant", "constant mean"), ("linear", "linear")):
            peer = json.loads((self.folder / "peers" / f"{name}.json").read_text())
            self.assertAlmostEqual(peer["rmse"], ours[model]["rmse"], delta=1e-7)
            self.assertAlmostEqual(peer["mae"], ours[model]["mae"], delta=1e-7)
            self.assertEqual((peer["n_train"], peer["n_test"]), (kept, len(test)))
        linear = json.loads((self.folder / "peers" / "linear.json").read_text())
        for name in ("constant", "linear", "hist_gradient_boosting", "mlp"):
            peer = json.loads((self.folder / "peers" / f"{name}.json").read_text())
            self.assertRegex(peer["library"], r"^scikit-learn \d")
            self.assertGreaterEqual(peer["seconds"], 0)
            with (self.folder / "peers" / f"{name}.csv").open(newline="") as file:
                rows = list(csv.DictReader(file))
            self.assertEqual([row["id"] for row in rows], test)
            # Predictions are popularity points: the errors follow from them.
            off = [(float(row["prediction"]) - float(tracks[row["id"]]["popularity"])) / 100 for row in rows]
            self.assertAlmostEqual(sum(abs(o) for o in off) / len(off), peer["mae"], delta=1e-6)
            self.assertAlmostEqual((sum(o * o for o in off) / len(off)) ** 0.5, peer["rmse"], delta=1e-6)
            if name in ("hist_gradient_boosting", "mlp"):
                self.assertLess(peer["rmse"], 1.1 * linear["rmse"])

    def test_bad_data_is_said(self):
        wrong = self.peers("--models", "linear,tree")
        self.assertEqual(wrong.returncode, 64)
        self.assertIn("no model 'tree'", wrong.stderr)
        tracks = self.data / "tracks.csv"
        text = tracks.read_text()
        for spoiled, want in ((text.replace("energy", "vigour", 1), "energy"), (text.replace(",test,", ",train,"), "0 test"),
                              (text.replace("danceability", "x", 1), "danceability")):
            tracks.write_text(spoiled)
            result = self.peers("--models", "constant")
            self.assertEqual(result.returncode, 65, result.stderr)
            self.assertIn(want, result.stderr)
            self.assertNotIn("Traceback", result.stderr)


if __name__ == "__main__":
    unittest.main()
