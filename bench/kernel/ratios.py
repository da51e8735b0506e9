# SPDX-License-Identifier: Apache-2.0
"""Ratios of runs of one kernel: geometric means over operations, their confidence intervals over layouts."""
import collections
import math
import statistics

Ratio = collections.namedtuple("Ratio", "mean low high runs")


def _t_density(x, freedom):
    logarithm = math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2) - math.log(freedom * math.pi) / 2
    return math.exp(logarithm - (freedom + 1) / 2 * math.log1p(x * x / freedom))


def _t_inside(limit, freedom):
    """The probability that Student's t is within -limit and limit; x = tan(angle) makes the range finite."""
    steps, top = 100, math.atan(limit)
    total = 0.0
    for i in range(steps + 1):
        angle = top * i / steps
        weight = 1 if i in (0, steps) else 4 if i % 2 else 2
        total += weight * _t_density(math.tan(angle), freedom) / math.cos(angle) ** 2
    return 2 * total * top / steps / 3


def t_quantile(freedom, confidence=0.95):
    """The two-sided limit within which Student's t is with this probability."""
    low, high = 0.0, 1e4
    for _ in range(45):
        middle = math.sqrt(low * high) if low else high / 1e3
        if _t_inside(middle, freedom) < confidence:
            low = middle
        else:
            high = middle
    return high


def ratio(values, base):
    """Geometric mean of values over that of base, with the 95 % interval by Welch on the logarithms.

    Each value is one run's, so the interval is over layouts, and the base's own spread is in it. With fewer than
    two runs on a side there is no interval: its ends are NaN.
    """
    ours, theirs = [math.log(v) for v in values], [math.log(v) for v in base]
    difference = statistics.fmean(ours) - statistics.fmean(theirs)
    if len(ours) < 2 or len(theirs) < 2:
        return Ratio(math.exp(difference), math.nan, math.nan, len(ours))
    a, b = statistics.variance(ours) / len(ours), statistics.variance(theirs) / len(theirs)
    if a + b == 0:
        return Ratio(math.exp(difference), math.exp(difference), math.exp(difference), len(ours))
    freedom = (a + b) ** 2 / (a * a / (len(ours) - 1) + b * b / (len(theirs) - 1))
    half = t_quantile(freedom) * math.sqrt(a + b)
    return Ratio(math.exp(difference), math.exp(difference - half), math.exp(difference + half), len(ours))


def overall(runs):
    """One value per run: the geometric mean over the operations common to all runs. A run is a dict of figures > 0."""
    common = set.intersection(*(set(run) for run in runs))
    if not common:
        raise ValueError("the runs have no operation in common")
    return [math.exp(statistics.fmean(math.log(run[name]) for name in sorted(common))) for run in runs]
