"""Statistics of the comparison: ratios with bootstrap intervals, and whether results agree."""
import math
import random
import statistics

RESAMPLES = 2000


def quartiles(values: list[float]) -> tuple[float, float, float]:
    """Lower quartile, median, upper quartile."""
    if len(values) < 2:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def median(values: list[float]) -> float:
    """As statistics.median, which takes several times as long; resampling needs thousands."""
    ordered, half = sorted(values), len(values) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def ratio_with_interval(ours: list[float], theirs: list[float], seed: int = 1) -> tuple[float, float, float]:
    """median(theirs) / median(ours) and its 95 % bootstrap interval over rounds.

    ours[i] and theirs[i] were measured in round i, one after the other, so a round is drawn as a pair:
    what slows a whole round down stays in both.
    """
    if len(ours) != len(theirs) or not ours:
        raise ValueError(f"{len(ours)} and {len(theirs)} rounds, want the same number, at least one")
    draw = random.Random(seed)
    pairs = list(zip(ours, theirs))
    ratios = []
    for _ in range(RESAMPLES):
        chosen = draw.choices(pairs, k=len(pairs))
        ratios.append(median([t for _, t in chosen]) / median([o for o, _ in chosen]))
    ratios.sort()
    point = median(theirs) / median(ours)
    return point, ratios[int(0.025 * RESAMPLES)], ratios[int(0.975 * RESAMPLES) - 1]


def difference(ours: dict, theirs: dict) -> float:
    """The largest difference between two workers' summaries of one array, relative to the largest value.

    Sent values are compared one by one; the root mean square and the mean of the whole arrays are
    compared too, so that an error between the sent values shows. Infinite if counts differ or a value
    is not finite.
    """
    values, others = ours["values"], theirs["values"]
    if ours["count"] != theirs["count"] or len(values) != len(others) or not values:
        return math.inf
    numbers = [ours["sum"], ours["squares"], theirs["sum"], theirs["squares"], *values, *others]
    if not all(v is not None and math.isfinite(v) for v in numbers):
        return math.inf
    largest = max(abs(v) for v in values)
    if largest == 0:
        return max(abs(v) for v in others)
    root = math.sqrt(ours["squares"] / ours["count"])
    return max(max(abs(a - b) for a, b in zip(values, others)) / largest,
               abs(root - math.sqrt(theirs["squares"] / theirs["count"])) / root,
               abs(ours["sum"] - theirs["sum"]) / ours["count"] / root)


def disagreements(ours: dict, theirs: dict, bound: float) -> list[str]:
    """What of two workers' outputs does not agree within `bound`, one sentence each."""
    out = []
    for name in sorted(ours.keys() | theirs.keys()):
        if name not in ours or name not in theirs:
            out.append(f"{name}: only one side has it")
            continue
        found = difference(ours[name], theirs[name])
        if not found <= bound:
            out.append(f"{name}: differs by {found:.2g} of the largest value, bound {bound:.2g}")
    return out
