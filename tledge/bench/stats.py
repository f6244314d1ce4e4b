"""When a percentile may be printed, what it is then, how sure a figure is, and how two candidates compare."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tledge.artifacts import LatencyRatio
from tledge.significance import binomial_tail

CONFIDENCE = 0.99
MEDIAN_SAMPLES = 6
"""The range of six samples holds the true median with 96.9 % confidence; with five it is 93.8 %."""
RESAMPLES = 2000
INTERVAL = (0.025, 0.975)
"""The quantiles of the resampled figures that bound a 95 % interval."""
_CHUNK = 1_000_000


@functools.cache
def samples_needed(percentile: float, confidence: float = CONFIDENCE) -> int:
    """The fewest samples for which a percentile is printed: p90 64, p95 130, p97 219, p99 662, p99.9 6636.

    This is early stopping of the MLPerf inference rules at tolerance 0: the fewest samples in which seeing
    no more than one above the true percentile has a probability below 1 - confidence. p50 needs 6: the
    median is not a tail, and it is printed as it is.

    Args:
        percentile: Percent, in [50, 100).
        confidence: In (0, 1).
    """
    if percentile == 50:
        return MEDIAN_SAMPLES
    over = _over(percentile)
    low, high = 1, 2
    while binomial_tail(1, high, over) >= 1 - confidence:
        low, high = high, high * 2
    while high - low > 1:  # `low` is too few, `high` enough: the tail falls with the number of samples
        middle = (low + high) // 2
        low, high = (middle, high) if binomial_tail(1, middle, over) >= 1 - confidence else (low, middle)
    return high


@functools.cache
def rank_from_top(samples: int, percentile: float, confidence: float = CONFIDENCE) -> int:
    """Which sample from the top is the percentile's estimate: 1 is the largest, and `rank - 1` are discarded.

    It is the largest t for which seeing t or fewer samples above the true percentile has a probability below
    1 - confidence. The t-th largest sample is then an upper bound of the percentile with at least that
    confidence, and it nears the percentile from above as samples grow.

    Args:
        samples: Number of samples, at least `samples_needed(percentile, confidence)`.
        percentile: Percent, in (50, 100).
        confidence: In (0, 1).
    """
    over = _over(percentile)
    low, high = 1, math.ceil(samples * over) + 1  # beyond the expected number the tail is above one half
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if binomial_tail(middle, samples, over) < 1 - confidence else (low, middle)
    return low


def percentile(samples: Sequence[float], percent: float) -> float | None:
    """The percentile of the samples in their unit, or None when there are too few for it.

    p50 is the plain median. Above it the estimate is that of MLPerf's early stopping: the largest sample when
    there are just enough, then one further down, and with 99 % confidence not below the true value.
    """
    if len(samples) < samples_needed(percent):
        return None
    ordered = np.sort(np.asarray(samples, dtype=np.float64))
    if percent == 50:
        return float(np.median(ordered))
    return float(ordered[-rank_from_top(len(samples), percent)])


def percentile_low(samples: Sequence[float], percent: float, confidence: float = CONFIDENCE) -> float | None:
    """A lower bound of the percentile in the samples' unit, or None when there are too few samples for one.

    It is the mirror image of `percentile`: the largest sample that is above the true percentile with a probability
    below 1 - confidence.

    Args:
        samples: Any number of them. They are taken as independent of each other.
        percent: The percentile, in (50, 100).
        confidence: In (0, 1).
    """
    over, size = _over(percent), len(samples)
    low, high = 0, size + 1  # ranks from the top: `low` is too high a sample, `high` is not
    while high - low > 1:
        middle = (low + high) // 2
        above = 1 - binomial_tail(middle - 1, size, over)
        low, high = (low, middle) if above < 1 - confidence else (middle, high)
    return None if high > size else float(np.sort(np.asarray(samples, dtype=np.float64))[-high])


def within_bound(bound: float, samples: Sequence[float], percent: float, confidence: float = CONFIDENCE) -> bool | None:
    """Whether the true percentile is within a bound: yes, no, or None when there are too few samples to say so.

    Yes is the condition under which the MLPerf inference rules let a run of the server scenario stop early: seeing no
    more samples above the bound than there are would have a probability below 1 - confidence if the percentile
    were above it (p99 needs 459 samples if none is). No is the same the other way round.

    Args:
        bound: In the samples' unit; a sample that equals it is within it.
        samples: Any number of them. They are taken as independent of each other.
        percent: The percentile, in (50, 100).
        confidence: In (0, 1).
    """
    chance = _over(percent)
    above = sum(sample > bound for sample in samples)
    if not len(samples):
        return None
    if binomial_tail(above, len(samples), chance) < 1 - confidence:
        return True
    fewer = binomial_tail(above - 1, len(samples), chance) if above else 0.0
    return False if 1 - fewer < 1 - confidence else None


def median_interval(samples: Sequence[float] | npt.NDArray[np.float64], *, seed: int = 0) -> tuple[float, float]:
    """The 95 % interval of the samples' median, of a percentile bootstrap (Efron and Tibshirani 1993).

    Args:
        samples: At least one.
        seed: Of the bootstrap.
    """
    low, high = np.quantile(_resampled_medians(np.asarray(samples, dtype=np.float64), seed), INTERVAL)
    return float(low), float(high)


def mean_interval(samples: Sequence[float] | npt.NDArray[np.float64], *, seed: int = 0) -> tuple[float, float]:
    """The 95 % interval of the samples' mean, of a percentile bootstrap (Efron and Tibshirani 1993).

    Args:
        samples: At least one.
        seed: Of the bootstrap.
    """
    values = np.asarray(samples, dtype=np.float64)
    rng = np.random.default_rng(seed)
    at_once = max(1, _CHUNK // values.size)  # all resamples in one array would take hundreds of MB
    means = np.concatenate(
        [
            values[rng.integers(0, values.size, (min(at_once, RESAMPLES - done), values.size))].mean(axis=1)
            for done in range(0, RESAMPLES, at_once)
        ]
    )
    low, high = np.quantile(means, INTERVAL)
    return float(low), float(high)


def paired_ratio(
    candidate: Sequence[float], reference: Sequence[float], *, name: str = "reference", seed: int = 0
) -> LatencyRatio:
    """How a candidate's latencies compare with a reference's of the same rounds: below 1 is faster.

    The ratio is the exponential of the median of the rounds' log ratios, and the interval the 95 % one of a
    percentile bootstrap over rounds (Efron and Tibshirani 1993). Every round counts: outliers are kept.

    Args:
        candidate: Positive latencies, one a round.
        reference: As many, of the same rounds in the same order.
        name: The reference's name.
        seed: Of the bootstrap.
    """
    logs = np.log(np.asarray(candidate, dtype=np.float64)) - np.log(np.asarray(reference, dtype=np.float64))
    ratio, low, high = np.exp([np.median(logs), *median_interval(logs, seed=seed)])
    return LatencyRatio(name, float(ratio), float(low), float(high), logs.size)


def _resampled_medians(values: npt.NDArray[np.float64], seed: int) -> npt.NDArray[np.float64]:
    """Medians of bootstrap resamples, `(RESAMPLES,)`, without drawing the resamples.

    A resample's k-th smallest value stands among the sorted values at n times the k-th smallest of n uniform numbers,
    and that is beta(k, n - k + 1) distributed (David and Nagaraja, Order Statistics, 2003). So one draw a resample, or
    two where the median is the mean of two values, gives exactly the bootstrap's distribution.
    """
    ordered, size = np.sort(values), values.size
    rng = np.random.default_rng(seed)
    rank = (size + 1) // 2
    place = rng.beta(rank, size - rank + 1, RESAMPLES)
    lower = ordered[_index(place, size)]
    if size % 2:
        return lower
    place = place + (1 - place) * rng.beta(1, size - rank, RESAMPLES)
    return (lower + ordered[_index(place, size)]) / 2


def _index(place: npt.NDArray[np.float64], size: int) -> npt.NDArray[np.int64]:
    return np.minimum((place * size).astype(np.int64), size - 1)


def _over(percent: float) -> float:
    if not 50 <= percent < 100:
        raise ValueError(f"a percentile lies in [50, 100), got {percent}")
    return 1 - percent / 100
