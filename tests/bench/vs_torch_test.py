"""Tests of the comparison with PyTorch that need no PyTorch: statistics, refusal of unequal results, exit codes."""
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
COMPARE = ROOT / "bench" / "vs_torch" / "compare.py"
sys.path[:0] = [str(COMPARE.parent)]

import compare  # noqa: E402
import growth  # noqa: E402
import intervals  # noqa: E402
import measure  # noqa: E402
import report  # noqa: E402
import rows as table  # noqa: E402
import workers  # noqa: E402

# A peer whose results and times are planted: argv holds the values of "y", the seconds of a call, and how long
# to compute between question and answer.
PEER = """
import json, sys, time
values, seconds, spin = json.loads(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
for line in sys.stdin:
    request = json.loads(line)
    until = time.monotonic() + spin
    while time.monotonic() < until: pass
    if request["do"] == "check":
        squares = sum(v * v for v in values)
        reply = {"outputs": {"y": {"count": len(values), "sum": sum(values), "squares": squares, "values": values}}}
    elif request["do"] == "run":
        if seconds < 0: sys.exit(3)
        reply = {"seconds": seconds * request["calls"]}
    elif request["do"] == "limits":
        reply = {"gflops": 50.0 * request["threads"]} | ({"copy_gbytes": 10.0} if request["copy"] else {})
    elif request["do"] == "prepare" and request["job"]["variant"] == "missing":
        reply = {"error": "not installed"}
    else:
        reply = {"ok": True}
    print(json.dumps(reply), flush=True)
"""
VALUES = [1.0, -2.0, 3.0, 0.5]


class Interval(unittest.TestCase):
    def test_covers_a_planted_ratio_about_as_often_as_it_says(self):
        draw = random.Random(7)
        covered = 0
        for trial in range(60):
            noise = [draw.lognormvariate(0, 0.2) for _ in range(15)]  # slow rounds, for both
            ours = [n * draw.lognormvariate(0, 0.05) for n in noise]
            theirs = [1.5 * n * draw.lognormvariate(0, 0.05) for n in noise]
            _, low, high = intervals.ratio_with_interval(ours, theirs, seed=trial)
            covered += low <= 1.5 <= high
        self.assertGreaterEqual(covered, 50)

    def test_narrows_with_rounds_and_excludes_a_wrong_ratio(self):
        draw = random.Random(3)
        def width(rounds):
            ours = [draw.lognormvariate(0, 0.1) for _ in range(rounds)]
            theirs = [2 * draw.lognormvariate(0, 0.1) for _ in range(rounds)]
            ratio, low, high = intervals.ratio_with_interval(ours, theirs)
            self.assertTrue(1.5 < low <= ratio <= high < 2.7, (low, ratio, high))
            return high - low
        self.assertLess(width(201), width(7))

    def test_wants_pairs(self):
        for ours, theirs in (([1.0], [1.0, 2.0]), ([], [])):
            with self.assertRaises(ValueError):
                intervals.ratio_with_interval(ours, theirs)

    def test_quartiles(self):
        self.assertEqual(intervals.quartiles([4.0, 1.0, 3.0, 2.0, 5.0]), (2.0, 3.0, 4.0))
        self.assertEqual(intervals.quartiles([4.0]), (4.0, 4.0, 4.0))


def summary(values: list[float], sent: list[float] | None = None) -> dict:
    return {"count": len(values), "sum": sum(values), "squares": sum(v * v for v in values),
            "values": values if sent is None else sent}


class Agreement(unittest.TestCase):
    def test_difference_is_relative_to_the_largest_value(self):
        self.assertAlmostEqual(intervals.difference(summary([100.0, 1.0]), summary([100.0, 1.5])), 0.005)

    def test_sees_an_error_between_the_sent_values(self):
        wrong = summary([1.0, 9.0, 2.0], sent=[1.0, 2.0])
        self.assertGreater(intervals.difference(summary([1.0, 1.0, 2.0], sent=[1.0, 2.0]), wrong), 0.5)
        negated = summary([1.0, -1.0, 2.0], sent=[1.0, 2.0])
        self.assertGreater(intervals.difference(summary([1.0, 1.0, 2.0], sent=[1.0, 2.0]), negated), 0.3)

    def test_nothing_agrees_with_not_a_number_or_another_count(self):
        good = summary([1.0, 2.0])
        for bad in (summary([1.0, float("nan")]), summary([1.0, float("inf")]), summary([1.0]), summary([])):
            self.assertEqual(len(intervals.disagreements({"y": good}, {"y": bad}, 1e9)), 1)
        # As JSON of another language may hold it.
        self.assertEqual(len(intervals.disagreements({"y": good}, {"y": good | {"sum": None}}, 1e9)), 1)

    def test_an_output_of_one_side_only_is_a_disagreement(self):
        self.assertEqual(len(intervals.disagreements({"y": summary([1.0])}, {}, 1)), 1)

    def test_zeros(self):
        self.assertEqual(intervals.disagreements({"y": summary([0.0])}, {"y": summary([0.0])}, 0), [])
        self.assertEqual(len(intervals.disagreements({"y": summary([0.0])}, {"y": summary([1e-3])}, 1e-4)), 1)


class RunRow(unittest.TestCase):
    """measure.run_row with planted peers."""

    def setUp(self):
        self.scratch = tempfile.TemporaryDirectory()
        self.folder = pathlib.Path(self.scratch.name)
        self.started = []

    def tearDown(self):
        for worker in self.started:
            worker.close()
        self.scratch.cleanup()

    def peer(self, name, values=VALUES, seconds=0.01, spin=0.0):
        command = [sys.executable, "-c", PEER, json.dumps(values), str(seconds), str(spin)]
        self.started.append(workers.Worker(name, command, {}, self.folder / "log"))
        return self.started[-1]

    def bench(self, **peers):
        return measure.Bench(self.peer("onpa"), peers, self.folder, 5, 2)

    def row(self, *peers, target=1.3):
        return table.Row("some/row", "kind", {}, list(peers), target=target, bound=1e-3, flops=5e8)

    def test_takes_the_fastest_way_and_measures_it(self):
        bench = self.bench(libtorch=self.peer("libtorch", seconds=0.02), python=self.peer("python", seconds=0.015))
        result = measure.run_row(bench, self.row(table.Peer("libtorch", "a"), table.Peer("python", "b"),
                                                 table.Peer("python", "missing")))
        self.assertNotIn("failed", result)
        self.assertEqual(result["best"], "Python b")
        self.assertAlmostEqual(result["ratio"], 1.5)
        self.assertTrue(result["met"])
        self.assertEqual(len(result["ours"]["rounds"]), 5)
        self.assertAlmostEqual(result["ours"]["rate"], 50.0)
        self.assertAlmostEqual(result["ours"]["share_of_limit"], 0.5)
        self.assertIn("not installed", result["tried_ms"]["Python missing"])
        self.assertEqual(list(self.folder.iterdir()), [self.folder / "log"])  # inputs are gone

    def test_a_target_that_is_missed_says_by_how_much(self):
        bench = self.bench(python=self.peer("python", seconds=0.01))
        result = measure.run_row(bench, self.row(table.Peer("python", "b"), target=2.0))
        self.assertFalse(result["met"])
        self.assertAlmostEqual(result["short_by"], 0.5)
        self.assertIn("short by 50 %; 2.00 at the machine's limit", report.line(result))

    def test_the_limit_is_that_of_the_threads_of_the_row(self):
        bench = self.bench(python=self.peer("python", seconds=0.02))
        row = self.row(table.Peer("python", "b"))
        row.threads, row.flops, row.bytes = 1, 0, 5e7
        result = measure.run_row(bench, row)
        self.assertEqual(result["machine"]["limits"], {"gflops": 50.0, "copy_gbytes": 10.0})
        self.assertAlmostEqual(result["ours"]["share_of_limit"], 0.5)
        self.assertNotIn("ratio_at_limit", result)  # a copy is no limit of what stays in the caches

    def test_unequal_results_are_refused_before_anything_is_timed(self):
        # Negative seconds end the peer when it is asked to run.
        bench = self.bench(python=self.peer("python", values=[1.0, -2.0, 3.01, 0.5], seconds=-1))
        result = measure.run_row(bench, self.row(table.Peer("python", "b")))
        self.assertIn("Python b: y: differs", result["failed"])
        self.assertNotIn("ratio", result)
        self.assertIsNone(bench.peers["python"].process.poll())

    def test_one_wrong_way_among_right_ones_fails_the_row(self):
        bench = self.bench(libtorch=self.peer("libtorch"), python=self.peer("python", values=[1.0, -2.0, 3.0, 0.6]))
        result = measure.run_row(bench, self.row(table.Peer("libtorch", "a"), table.Peer("python", "b")))
        self.assertIn("Python b", result["failed"])

    def test_no_way_that_runs_fails_the_row(self):
        bench = self.bench(python=self.peer("python"))
        result = measure.run_row(bench, self.row(table.Peer("python", "missing"), table.Peer("libtorch", "a")))
        self.assertIn("not installed", result["failed"])

    def test_a_peer_that_dies_fails_the_row_and_names_its_log(self):
        bench = self.bench(python=self.peer("python", seconds=-1))
        result = measure.run_row(bench, self.row(table.Peer("python", "b")))
        self.assertIn("status 3", result["failed"])
        self.assertIn(str(self.folder / "log"), result["failed"])

    def test_workers_at_rest_take_no_time(self):
        bench = self.bench(python=self.peer("python", spin=0.05))
        result = measure.run_row(bench, self.row(table.Peer("python", "b")))
        self.assertLess(result["machine"]["cores_busy_in_waiting_workers"], 0.1)

    def test_failed_rows_are_kept_and_named(self):
        bench = self.bench(python=self.peer("python", values=[0.0]))
        results = compare.Results(self.folder / "out.json", ["some/row"])
        planned = {"some/row": lambda: measure.run_row(bench, self.row(table.Peer("python", "b"))),
                   "other": lambda: self.fail("does not match")}
        self.assertEqual(compare.run_rows(planned, "^some", results, bench.all_workers()), ["some/row"])
        self.assertIn("differs", json.loads((self.folder / "out.json").read_text())["rows"][0]["failed"])


    def test_nothing_runs_after_a_worker_ended(self):
        bench = self.bench(python=self.peer("python", seconds=-1))
        results = compare.Results(self.folder / "out.json", [])
        planned = {"some/row": lambda: measure.run_row(bench, self.row(table.Peer("python", "b"))),
                   "some/other": lambda: self.fail("a worker has ended")}
        self.assertEqual(compare.run_rows(planned, ".", results, bench.all_workers()), ["some/row"])


class Table(unittest.TestCase):
    def test_a_row_that_was_lost_stays(self):
        side = {"median": 2.0, "quartiles": [1.0, 3.0], "rounds": [2.0], "rate": 5.0, "share_of_limit": 0.25}
        row = {"name": "slow", "unit": "ms", "target": 1.3, "ours": side, "theirs": side | {"median": 1.0},
               "best": "C++ eager", "ratio": 0.5, "interval": [0.4, 0.6], "met": False, "short_by": 0.615,
               "rate_unit": "GFLOP/s", "commit": "abc",
               "also": [{"what": "x", "value": 1.0, "want": 2.0, "met": False}]}
        data = {"versions": {"torch": "9.9"}, "threads": 2, "rows": [row],
                "limits": {"gflops": 1.0, "copy_gbytes": 1.0, "torch_copy_gbytes": 1.0}}
        text = "\n".join(report.table(data))
        self.assertIn("| slow | 2 ms | 1 ms: C++ eager | 0.50 (0.40 to 0.60) | 1.3 | short by 62 %; 1 x, want 2 |", text)
        row["our_best"] = "onpa fused, 1 thread"
        self.assertIn("| slow | 2 ms: fused, 1 thread | 1 ms: C++ eager |", report.line(row))
        row["machine"] = {"cores_busy_with_others": 1.24}
        self.assertIn("other processes kept 1.2 cores busy", report.line(row))

    def test_the_readme_shows_what_the_committed_results_say(self):
        text = (ROOT / "README.md").read_text()
        self.assertRegex(text, report.MARK)
        self.assertEqual(report.with_table(text, ROOT), text)

    def test_the_table_of_the_readme_is_made_anew(self):
        row = {"name": "mp3_decode", "unit": "ms", "target": 1.3, "ours": {"median": 2.0}, "theirs": {"median": 5.0},
               "ratio": 2.5, "interval": None, "ratio_at_limit": 4.0}
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            (root / "bench/results").mkdir(parents=True)
            (root / "bench/results/x.json").write_text(json.dumps({"rows": [row, row | {"name": "not shown"}]}))
            mark = "<!-- from bench/results/x.json by ./dev bench --vs-torch -->\n"
            made = report.with_table(f"a\n{mark}old\n<!-- end -->\nb", root)
        self.assertEqual(made.split("\n")[4:], ["| mp3_decode | 2 ms | 5 ms | 2.50 | 1.3 | 4.00 |", "<!-- end -->", "b"])

    def test_every_target_of_a_row_is_a_number_that_a_ratio_can_reach(self):
        for small in (False, True):
            names = [row.name for row in table.all_rows(small)]
            self.assertEqual(len(names), len(set(names)))
        for row in table.all_rows(False):
            self.assertTrue(0 < row.target < 100 and row.peers, row.name)

    def test_kept_patches_give_the_token_counts_of_the_rows(self):
        self.assertEqual(len(table.kept_patches(1000, 4, 40)) + 2, 474)
        self.assertEqual(len(table.kept_patches(3000, 4, 120)) + 2, 1434)
        self.assertEqual(sorted(set(table.kept_patches(1000, 4, 40))), table.kept_patches(1000, 4, 40))


class Growth(unittest.TestCase):
    def test_fit_finds_a_planted_quadratic(self):
        a, b, c = growth.fit_quadratic([(n, 3.0 + 0.5 * n + 0.002 * n * n) for n in (258, 474, 899, 1434, 2155)])
        self.assertAlmostEqual(a, 3.0, places=5)
        self.assertAlmostEqual(b, 0.5, places=7)
        self.assertAlmostEqual(c, 0.002, places=9)


class Command(unittest.TestCase):
    def test_without_pytorch_it_names_the_remedy_and_ends_with_69(self):
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run([sys.executable, str(COMPARE)], env=os.environ | {"ONPA_TORCH_VENV": folder},
                                  capture_output=True, text=True)
        self.assertEqual(done.returncode, 69)
        self.assertIn(f"no PyTorch in {folder}", done.stderr)
        self.assertIn("./dev setup torch", done.stderr)
        self.assertEqual(done.stdout, "")


if __name__ == "__main__":
    unittest.main()
