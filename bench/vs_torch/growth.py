"""How costs grow: a training step with tokens, an epoch with rows and with loader threads."""
import os

import measure
import rows as table

STEP_TOKENS = (258, 474, 899, 1434, 2155)
EPOCH_ROWS = (125_000, 250_000, 500_000, 1_000_000)
DECODE_FILES, DECODE_SECONDS = 16, 30
ROUNDS = 3
BLOCKS = 11  # the last works out two tokens only


def solve(matrix: list[list[float]], right: list[float]) -> list[float]:
    """Gauss's elimination with pivoting."""
    rows = [line[:] + [value] for line, value in zip(matrix, right)]
    n = len(rows)
    for i in range(n):
        pivot = max(range(i, n), key=lambda r: abs(rows[r][i]))
        rows[i], rows[pivot] = rows[pivot], rows[i]
        for r in range(n):
            if r != i:
                factor = rows[r][i] / rows[i][i]
                rows[r] = [a - factor * b for a, b in zip(rows[r], rows[i])]
    return [rows[i][n] / rows[i][i] for i in range(n)]


def fit_quadratic(points: list[tuple[float, float]]) -> tuple[float, float, float]:
    """(a, b, c) of a + b x + c x^2 with the least sum of squared relative errors."""
    matrix, right = [[0.0] * 3 for _ in range(3)], [0.0] * 3
    for x, y in points:
        terms = [1 / y, x / y, x * x / y]
        for i in range(3):
            right[i] += terms[i]
            for j in range(3):
                matrix[i][j] += terms[i] * terms[j]
    a, b, c = solve(matrix, right)
    return a, b, c


def step_against_tokens(bench: measure.Bench, small: bool) -> dict:
    points = []
    for tokens in STEP_TOKENS[:3] if small else STEP_TOKENS:
        tokens = tokens // 8 if small else tokens
        row = table.passt_row(True, 30, 4, 120, False)
        row.name = f"growth_step_{tokens}"
        all_patches = 12 * 299
        row.args["keep"] = [i * all_patches // (tokens - 2) for i in range(tokens - 2)]
        step = measure.median_seconds(bench, row, ROUNDS)
        attention = table.attention_row(tokens, True, False)
        attention.name = f"growth_attention_{tokens}"
        points.append((tokens, step, BLOCKS * measure.median_seconds(bench, attention, ROUNDS)))
    a, b, c = fit_quadratic([(n, step) for n, step, _ in points])
    return {"rows": [{"tokens": n, "step_ms": 1e3 * step, "attention_ms": 1e3 * attention,
                      "attention_ns_per_token_squared": 1e9 * attention / n**2,
                      "rest_us_per_token": 1e6 * (step - attention) / n,
                      "fit_ms": 1e3 * (a + b * n + c * n * n)} for n, step, attention in points],
            "fit": {"constant_ms": 1e3 * a, "us_per_token": 1e6 * b, "ns_per_token_squared": 1e9 * c}}


def epoch_against_rows(bench: measure.Bench, small: bool) -> dict:
    out = []
    for count in (1024, 2048) if small else EPOCH_ROWS:
        row = table.dense_row(64, True, False)
        row.name, row.args["rows"] = f"growth_epoch_{count}", count
        seconds = measure.median_seconds(bench, row, ROUNDS)
        out.append({"rows": count, "epoch_ms": 1e3 * seconds, "us_per_row": 1e6 * seconds / count})
    return {"rows": out}


def decode_against_workers(bench: measure.Bench, small: bool) -> dict:
    files, seconds = (4, 2) if small else (DECODE_FILES, DECODE_SECONDS)
    out = []
    for count in sorted({1, 2, os.cpu_count() or 1}):
        row = table.Row(f"growth_decode_{count}", "decode_epoch",
                        {"files": files, "seconds": seconds, "workers": count}, [])
        took = measure.median_seconds(bench, row, ROUNDS)
        out.append({"loader_threads": count, "epoch_ms": 1e3 * took, "x_realtime": files * seconds / took,
                    "speed_up": out[0]["epoch_ms"] / (1e3 * took) if out else 1.0})
    return {"rows": out}


def run(bench: measure.Bench, small: bool) -> dict:
    return {"step_against_tokens": step_against_tokens(bench, small),
            "dense_epoch_against_rows": epoch_against_rows(bench, small),
            "decode_epoch_against_loader_threads": decode_against_workers(bench, small)}
