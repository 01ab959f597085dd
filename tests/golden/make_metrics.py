#!/usr/bin/env python3
"""Writes metrics.json: regression metrics, linear regression and ranks by scikit-learn and SciPy.

Needs numpy, scipy, scikit-learn. Run from the repository root.
"""
import json
import pathlib

import numpy as np
import scipy
import sklearn
from scipy.stats import rankdata
from sklearn.linear_model import LinearRegression
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score

rng = np.random.default_rng(5)


def metrics_case(n, spread):
    y = (0.2 * rng.standard_normal(n)).astype(np.float32)
    p = (y + spread * rng.standard_normal(n)).astype(np.float32)
    return {
        "target": [float(v) for v in y],
        "prediction": [float(v) for v in p],
        "rmse": float(np.sqrt(mean_squared_error(y.astype(float), p.astype(float)))),
        "mae": float(mean_absolute_error(y.astype(float), p.astype(float))),
        "r2": float(r2_score(y.astype(float), p.astype(float))),
    }


def linear_case(n, columns):
    # Columns of very different size, as tempo beside danceability.
    x = (rng.standard_normal((n, columns)) * 10.0 ** rng.uniform(-2, 2, columns) + 3).astype(np.float32)
    y = (x @ rng.standard_normal(columns) / 50 + rng.standard_normal(n)).astype(np.float32)
    new = (rng.standard_normal((7, columns)) + 3).astype(np.float32)
    model = LinearRegression().fit(x.astype(float), y.astype(float))
    return {
        "columns": columns,
        "x": [float(v) for v in x.ravel()],
        "y": [float(v) for v in y],
        "new": [float(v) for v in new.ravel()],
        "predicted": [float(v) for v in model.predict(new.astype(float))],
    }


values = [0.3, 0.1, 0.3, 0.2, 0.1, 0.5, 0.3, 0.0]
out = {
    "made_with": {"sklearn": sklearn.__version__, "scipy": scipy.__version__, "numpy": np.__version__},
    "metrics": [metrics_case(n, s) for n, s in [(2, 0.1), (7, 0.1), (64, 0.3), (101, 0.01)]],
    "linear": [linear_case(n, c) for n, c in [(20, 1), (60, 3), (97, 10)]],
    "ranks": {"values": values, "ranks": [int(v) for v in rankdata(values, method="min")]},
}
path = pathlib.Path(__file__).with_name("metrics.json")
path.write_text(json.dumps(out, indent=None, separators=(",", ":")) + "\n")
