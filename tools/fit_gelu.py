#!/usr/bin/env python3
"""Prints the coefficients of kernels/cpu/gelu-inl.h, highest power first (needs numpy).

The lower tail of the normal distribution is Phi(-a) = exp(-a^2 / 2) R(a); R is fitted by P(a) / Q(a)
for 0 <= a <= MAX_A, and 2^f, for the exponential, by a polynomial on [-1/2, 1/2], both with the least
largest error (Lawson's reweighted least squares). Errors are relative; a tail that is small itself may
be up to TAIL_SLACK times worse.
"""
import math

import numpy as np

P_TERMS, Q_TERMS, EXP_TERMS, MAX_A, TAIL_SLACK = 4, 4, 7, 14.0, 100.0


def fit(x, y, importance, above_terms, below_terms):
    """y by A(x) / B(x), B(0) = 1: the largest error, A and B, lowest power first."""
    scale = np.abs(x).max()
    z = (x / scale)[:, None]
    columns = np.hstack([z ** np.arange(above_terms), -y[:, None] * z ** np.arange(1, below_terms)])
    weight, below, best = np.ones_like(x), np.ones_like(x), (math.inf, None, None)
    for _ in range(300):
        root = np.sqrt(weight) * importance / (y * below)
        found = np.linalg.lstsq(columns * root[:, None], y * root, rcond=None)[0]
        a, b = found[:above_terms], np.concatenate([[1], found[above_terms:]])
        below = np.polyval(b[::-1], z[:, 0])
        error = np.abs(np.polyval(a[::-1], z[:, 0]) / below / y - 1) * importance
        if error.max() < best[0]:
            best = (error.max(), a / scale ** np.arange(above_terms),
                    b / scale ** np.arange(below_terms))
        weight = weight * np.sqrt(error / error.max() + 1e-3)
        weight /= weight.mean()
    return best


nodes = np.cos(np.pi * (np.arange(4000) + 0.5) / 4000)
a = MAX_A * ((nodes + 1) / 2) ** 2
tail = np.array([0.5 * math.erfc(v / math.sqrt(2)) for v in a])
for name, (error, above, below) in (
        ("R", fit(a, tail * np.exp(0.5 * a * a), np.maximum(2 * tail, 1 / TAIL_SLACK), P_TERMS, Q_TERMS + 1)),
        ("2^f", fit(nodes / 2, 2 ** (nodes / 2), np.ones_like(nodes), EXP_TERMS, 1))):
    print(f"{name}: largest error before rounding {error:.2e}")
    for c in (above, below):
        print("  " + ", ".join(f"{np.float32(v):.9g}f" for v in c[::-1]))
