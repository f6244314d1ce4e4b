"""What several trainings of a student tell together: means over seeds with their intervals, and the teacher's gain."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

from tledge.artifacts import Contender, Gain

CONFIDENCE = 0.95


def contender(
    name: str, parameters: int, seeds: Sequence[int], metrics: Sequence[Mapping[str, float]], seconds: float
) -> Contender:
    """One row of the table: the mean of each metric over the seeds, with Student's t interval of that mean.

    Args:
        name: what it is.
        parameters: of the model.
        seeds: one for each training.
        metrics: of each training, on the same test rows.
        seconds: all trainings together.
    """
    found = {key: interval([each[key] for each in metrics]) for key in metrics[0]}
    bounded = {key: bounds for key, (_, *bounds) in found.items() if not math.isnan(bounds[0])}
    return Contender(
        name,
        parameters,
        tuple(seeds),
        tuple(metrics),
        mean={key: mean for key, (mean, _, _) in found.items()},
        low={key: low for key, (low, _) in bounded.items()},
        high={key: high for key, (_, high) in bounded.items()},
        seconds=seconds,
    )


def gain(metric: str, taught: Contender, alone: Contender, *, lower_is_better: bool) -> Gain:
    """What the teacher gave in one metric, seed by seed: both students of a seed have the same start and rows."""
    differences = [
        one[metric] - other[metric] for one, other in zip(taught.metrics, alone.metrics, strict=True)
    ]  # fmt: skip
    mean, low, high = interval(differences)
    if math.isnan(low):
        return Gain(metric, mean)
    helps = None
    if low > 0 or high < 0:
        helps = (mean < 0) == lower_is_better
    return Gain(metric, mean, low, high, helps)


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean, and the ends of its 95 % interval by Student's t distribution; NaN for both with fewer than two values."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, math.nan, math.nan
    half = stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values))
    return mean, mean - float(half), mean + float(half)
