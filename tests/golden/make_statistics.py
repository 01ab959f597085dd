#!/usr/bin/env python3
"""Writes statistics.json: signed-rank tests, rank correlations and errors by bin, by SciPy and scikit-learn.

Needs numpy, scipy, scikit-learn. Run from the repository root.
"""
import json
import math
import pathlib
import warnings

import numpy as np
import scipy
import sklearn
from scipy.stats import spearmanr, wilcoxon
from sklearn.metrics import mean_absolute_error, mean_squared_error

warnings.simplefilter("ignore")  # constant vectors and small n are what is asked about
rng = np.random.default_rng(11)


def number(value):
    value = float(value)
    return None if math.isnan(value) else value


def wilcoxon_case(name, a, b):
    a, b = np.asarray(a, float), np.asarray(b, float)
    auto = wilcoxon(a, b)
    normal = wilcoxon(a, b, method="asymptotic")
    return {
        "name": name,
        "a": a.tolist(),
        "b": b.tolist(),
        "n": int(np.count_nonzero(a - b)),
        "statistic": number(auto.statistic),
        "p": number(auto.pvalue),
        "z": number(normal.zstatistic),
    }


def plain(n, shift=0.2):
    return rng.standard_normal(n), rng.standard_normal(n) + shift


def tied(n, levels=4):
    return rng.integers(0, levels, n) / 4, rng.integers(0, levels, n) / 4


def with_zeros(n, zeros):
    a, b = plain(n)
    b[:zeros] = a[:zeros]
    return a, b


def tied_without_zeros(n):
    a = rng.standard_normal(n).round(1)
    return a, a + rng.choice([-0.5, 0.25, 0.5, 1.0], n)


def spearman_case(name, a, b):
    a, b = np.asarray(a, float), np.asarray(b, float)
    result = spearmanr(a, b)
    return {"name": name, "a": a.tolist(), "b": b.tolist(), "r": number(result.statistic), "p": number(result.pvalue)}


def correlated(n, levels=0):
    a = rng.standard_normal(n)
    b = a + rng.standard_normal(n)
    if levels:
        a, b = (a * levels).round(), (b * levels).round()
    return a, b


def bins_case(n, width, popularity):
    errors = 0.1 * rng.standard_normal(n)
    popularity = np.asarray(popularity, float)
    place = np.minimum((popularity // width).astype(int), math.ceil(100 / width) - 1)
    used = sorted(set(place.tolist()))
    zero = {k: np.zeros(int((place == k).sum())) for k in used}
    mse = [mean_squared_error(zero[k], errors[place == k]) for k in used]
    mae = [mean_absolute_error(zero[k], errors[place == k]) for k in used]
    return {
        "width": width,
        "popularity": popularity.tolist(),
        "errors": errors.tolist(),
        "used": used,
        "bin_mae": [float(v) for v in mae],
        "bin_mse": [float(v) for v in mse],
        "mae": float(np.mean(mae)),
        "rmse": float(np.sqrt(np.mean(mse))),
    }


out = {
    "made_with": {"sklearn": sklearn.__version__, "scipy": scipy.__version__, "numpy": np.__version__},
    "wilcoxon": [
        wilcoxon_case("one pair", [1.0], [0.5]),
        wilcoxon_case("two pairs", [1.0, 2.0], [0.5, 3.0]),
        wilcoxon_case("two pairs, tied", [1.0, 2.0], [0.5, 2.5]),
        wilcoxon_case("all equal, few", np.ones(5), np.ones(5)),
        wilcoxon_case("all equal", np.ones(20), np.ones(20)),
        wilcoxon_case("all equal, many", np.ones(60), np.ones(60)),
        wilcoxon_case("constant difference", np.ones(20), np.zeros(20)),
        wilcoxon_case("constant difference, few", np.ones(9), np.zeros(9)),
        wilcoxon_case("constant difference, many", np.ones(60), np.zeros(60)),
        wilcoxon_case("13 with ties", *tied(13)),
        wilcoxon_case("14 with ties", *tied(14)),
        wilcoxon_case("13 with zeros", *with_zeros(13, 3)),
        wilcoxon_case("13 with ties alone", *tied_without_zeros(13)),
        wilcoxon_case("14 with zeros", *with_zeros(14, 3)),
        wilcoxon_case("30 with ties alone", *tied_without_zeros(30)),
        wilcoxon_case("50", *plain(50)),
        wilcoxon_case("51", *plain(51)),
        wilcoxon_case("50 with a zero", *with_zeros(50, 1)),
        wilcoxon_case("52 with two zeros", *with_zeros(52, 2)),
        wilcoxon_case("50, all one side", rng.random(50) + 1, rng.random(50) - 1),
        wilcoxon_case("300", *plain(300, 0.1)),
        wilcoxon_case("300 with ties", *tied(300, 6)),
        wilcoxon_case("200, far apart", *plain(200, 3.0)),
        wilcoxon_case("a NaN", [1.0, float("nan"), 3.0], [0.0, 1.0, 2.0]) | {"a": [1.0, None, 3.0]},
    ],
    "spearman": [
        spearman_case("two", [1, 2], [3, 5]),
        spearman_case("two, tied", [1, 1], [3, 5]),
        spearman_case("three", [1, 2, 3], [1, 3, 2]),
        spearman_case("perfect", range(7), [v**3 for v in range(7)]),
        spearman_case("opposite", range(7), [-v for v in range(7)]),
        spearman_case("perfect with ties", [1, 1, 2, 3, 3], [2, 2, 5, 9, 9]),
        spearman_case("constant", np.ones(6), range(6)),
        spearman_case("both constant", np.ones(6), np.ones(6)),
        spearman_case("47", *correlated(47)),
        spearman_case("47 with ties", *correlated(47, 2)),
        spearman_case("200", *correlated(200)),
        spearman_case("200, unrelated", rng.standard_normal(200), rng.standard_normal(200)),
        spearman_case("a NaN", [1.0, float("nan"), 3.0], [0.0, 1.0, 2.0]) | {"a": [1.0, None, 3.0]},
    ],
    "bins": [
        bins_case(1, 5, [100]),
        bins_case(6, 5, [0, 4.9, 5, 99, 100, 5]),
        bins_case(200, 5, rng.integers(0, 101, 200)),
        bins_case(150, 7, np.clip(rng.normal(40, 15, 150), 0, 100)),
        bins_case(20, 100, rng.integers(0, 101, 20)),
    ],
}
path = pathlib.Path(__file__).with_name("statistics.json")
path.write_text(json.dumps(out, indent=None, separators=(",", ":")) + "\n")
