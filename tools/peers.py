#!/usr/bin/env python3
"""Models of scikit-learn on the tracks that onpa trains and is tested on: errors to set beside onpa's.

Reads DATA/tracks.csv and DATA/card.json (onpa prepare); learns from the train tracks that undersampling kept and
predicts the test tracks. Features are standardised by the train tracks' mean and deviation where the model wants it.
Writes PEERS/<name>.json (errors in target units, as onpa's) and PEERS/<name>.csv (id and
predicted popularity, 0 to 100). Ends with 69 without scikit-learn (./dev setup study).
"""
import argparse
import csv
import io
import json
import os
import pathlib
import sys
import time
import warnings

FOLDER = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(FOLDER)]

from study_tools import (EXIT_BAD_DATA, EXIT_MISSING, Parser, ToolError, make_folder, need, run_tool,  # noqa: E402
                         write_atomic)

MODELS = ("constant", "linear", "hist_gradient_boosting", "mlp", "random_forest")
DEFAULT = MODELS[:4]  # a forest of a million rows takes long and much memory


def parse_arguments(arguments=None) -> argparse.Namespace:
    parser = Parser(prog="peers.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=pathlib.Path, metavar="DATA", help="data set folder")
    parser.add_argument("--out", type=pathlib.Path, required=True, metavar="PEERS", help="folder to write")
    parser.add_argument("--models", default=",".join(DEFAULT), help=f"comma-separated, of {', '.join(MODELS)}; "
                                                                    f"default: all but random_forest")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(arguments)
    args.models = [name for name in args.models.split(",") if name]
    unknown = [name for name in args.models if name not in MODELS]
    if unknown or not args.models:
        parser.error(f"--models: no model '{unknown[0] if unknown else ''}'; there are {', '.join(MODELS)}")
    return args


def read_card(data: pathlib.Path) -> tuple[list[str], float, float]:
    """The names of the features, and the popularity at the targets -0.5 and 0.5."""
    path = data / "card.json"
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        names = card["feature_names"]
        target = card.get("target", {"low": 0, "high": 100})
        low, high = float(target["low"]), float(target["high"])
    except FileNotFoundError as error:
        raise ToolError(EXIT_MISSING, f"{path}: no such file; onpa prepare makes a data set") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ToolError(EXIT_BAD_DATA, f"{path}: not a data card: {error}") from error
    if not isinstance(names, list) or not names:
        raise ToolError(EXIT_BAD_DATA, f"{path}: names no feature")
    return names, low, high


class Data:
    """Features as float32, targets as onpa's: float32 of (popularity - low) / (high - low) - 0.5."""

    def __init__(self, folder: pathlib.Path):
        import numpy as np
        import pandas
        names, self.low, self.high = read_card(folder)
        path = folder / "tracks.csv"
        columns = ["id", "popularity", "split", "kept", *names]
        try:
            table = pandas.read_csv(path, usecols=columns, dtype={"id": str, "split": "category"},
                                    keep_default_na=False)
        except FileNotFoundError as error:
            raise ToolError(EXIT_MISSING, f"{path}: no such file; onpa prepare makes a data set") from error
        except ValueError as error:
            raise ToolError(EXIT_BAD_DATA, f"{path}: {error}") from error
        train = ((table["split"] == "train") & (table["kept"] == 1)).to_numpy()
        test = (table["split"] == "test").to_numpy()
        if not train.any() or not test.any():
            raise ToolError(EXIT_BAD_DATA, f"{path}: {train.sum()} train and {test.sum()} test tracks; want some of each")
        try:
            features = table[names].to_numpy(dtype=np.float32)
            popularity = table["popularity"].to_numpy(dtype=np.float64)
            target = ((popularity - self.low) / (self.high - self.low) - 0.5).astype(np.float32)
        except ValueError as error:
            raise ToolError(EXIT_BAD_DATA, f"{path}: {error}") from error
        self.x, self.y = features[train], target[train].astype(np.float64)
        self.x_test, self.y_test = features[test], target[test].astype(np.float64)
        self.ids = table["id"].to_numpy()[test]


def make_model(name: str, seed: int, rows: int):
    """The model, and what was chosen for it that is not the library's default."""
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.dummy import DummyRegressor
    from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor
    from sklearn.linear_model import LinearRegression
    from sklearn.neural_network import MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    if name == "constant":
        return DummyRegressor(strategy="mean"), {"strategy": "mean"}
    if name == "linear":
        return LinearRegression(), {}
    if name == "hist_gradient_boosting":
        settings = {"max_iter": 1000, "learning_rate": 0.05, "early_stopping": True, "validation_fraction": 0.1,
                    "n_iter_no_change": 20, "random_state": seed}
        return HistGradientBoostingRegressor(**settings), settings
    if name == "random_forest":
        settings = {"n_estimators": 100, "min_samples_leaf": 5, "max_samples": min(1.0, 200000 / rows), "n_jobs": -1,
                    "random_state": seed}
        return RandomForestRegressor(**settings), settings
    settings = {"hidden_layer_sizes": [256, 256, 128], "batch_size": min(512, max(1, rows * 8 // 10)), "early_stopping": True,
                "validation_fraction": 0.1, "n_iter_no_change": 5, "max_iter": 50, "random_state": seed}
    mlp = MLPRegressor(**(settings | {"hidden_layer_sizes": (256, 256, 128)}))
    # On standardised features and a standardised target, as onpa's Dense.
    model = make_pipeline(StandardScaler(), TransformedTargetRegressor(mlp, transformer=StandardScaler()))
    return model, settings | {"features": "standardised", "target": "standardised"}


def fit(name: str, data: Data, seed: int):
    import numpy as np
    from sklearn.exceptions import ConvergenceWarning
    model, settings = make_model(name, seed, len(data.y))
    # The normal equations want the precision; boosted trees and forests bin, and a net of floats is what is compared.
    exact = name in ("constant", "linear")
    x, x_test = (data.x.astype(np.float64), data.x_test.astype(np.float64)) if exact else (data.x, data.x_test)
    began = time.monotonic()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # max_iter is a limit on purpose
        model.fit(x, data.y if name != "mlp" else data.y.astype(np.float32))
    seconds = time.monotonic() - began
    if name == "hist_gradient_boosting":
        settings |= {"iterations": int(model.n_iter_)}
    if name == "mlp":
        settings |= {"epochs": int(model[-1].regressor_.n_iter_)}
    return np.asarray(model.predict(x_test), dtype=np.float64), settings, seconds


def write(out: pathlib.Path, name: str, data: Data, prediction, settings: dict, seconds: float) -> dict:
    import numpy as np
    import sklearn
    from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score
    result = {"name": name, "library": f"scikit-learn {sklearn.__version__}", "settings": settings,
              "seconds": round(seconds, 3), "n_train": len(data.y), "n_test": len(data.y_test),
              "rmse": float(np.sqrt(mean_squared_error(data.y_test, prediction))),
              "mae": float(mean_absolute_error(data.y_test, prediction)),
              "r2": float(r2_score(data.y_test, prediction)) if len(data.y_test) > 1 else None}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", "prediction"])
    writer.writerows(zip(data.ids, (repr(float(p)) for p in data.low + (prediction + 0.5) * (data.high - data.low))))
    write_atomic(out / f"{name}.csv", text.getvalue())
    write_atomic(out / f"{name}.json", json.dumps(result, indent=2) + "\n")
    return result


def main() -> int:
    args = parse_arguments()
    read_card(args.data)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that wait leave the cores to others
    need("numpy", "pandas", "sklearn")
    data = Data(args.data)
    make_folder(args.out)
    sys.stdout.write(f"{len(data.y)} train and {len(data.y_test)} test tracks, {data.x.shape[1]} features\n"
                     f"{'model':24} {'RMSE':>8} {'MAE':>8} {'R2':>8} {'seconds':>9}\n")
    for name in args.models:
        prediction, settings, seconds = fit(name, data, args.seed)
        result = write(args.out, name, data, prediction, settings, seconds)
        r2 = f"{result['r2']:8.4f}" if result["r2"] is not None else f"{'-':>8}"
        sys.stdout.write(f"{name:24} {result['rmse']:8.4f} {result['mae']:8.4f} {r2} {seconds:9.1f}\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    run_tool("peers", main)
