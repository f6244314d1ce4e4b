"""Paired tests of two models on the same rows: is a metric's change real, or chance?"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tledge import tasks
from tledge.artifacts import ACCEPT, ANOMALOUS, INCONCLUSIVE, REGRESSION, MetricDrop
from tledge.errors import DataError
from tledge.tasks import Task

Array = npt.NDArray[Any]
Outputs = Mapping[str, Array]

SHARES = ("accuracy", "exact_match")
"""The metrics that are the share of rows which are right."""
ROUNDING = 1e-12
"""What a drop may be over its limit because figures are rounded."""
SIGNIFICANT = 0.05
"""The p-value below which a difference is taken as real."""
MCNEMAR, BOOTSTRAP = "exact McNemar test", "paired bootstrap"
SHARE_RESAMPLES = 4000
RESAMPLES = (200, 1000)
"""The fewest and the most resamples of rows that are scored one by one; 200 still tell a p-value of 0.01."""
CELLS = 20_000_000
"""Outputs (rows times labels) that all resamples together may hold, lest a bootstrap take a minute."""
_INTERVAL = (0.025, 0.975)
_Z = 1.959964


def value(task: Task, metric: str, outputs: Outputs, targets: Array) -> float:
    """A metric of some rows.

    Raises:
        DataError: the metric is not defined on them, as the ROC AUC of rows of one label.
    """
    found = task.score(outputs, targets)
    if metric not in found:
        raise DataError(f"{metric} is not defined on the {len(targets)} evaluation rows; give rows of every label")
    return found[metric]


def interval(task: Task, metric: str, outputs: Outputs, targets: Array, *, seed: int = 0) -> tuple[float, float]:
    """The 95 % interval of a metric of some rows: Wilson's for a share of rows, else a percentile bootstrap.

    Args:
        task: Scores the rows.
        metric: One of the task's.
        outputs: Raw outputs, rows first.
        targets: As many.
        seed: Of the bootstrap.
    """
    right = _right(task, metric, outputs, targets)
    if right is not None:
        return wilson(float(right.mean()), right.size)
    found = _resampled(outputs, seed, lambda rows: _score(task, metric, outputs, targets, rows))
    return _bounds(found)


def wilson(share: float, rows: int) -> tuple[float, float]:
    """The 95 % interval of a share of rows (Wilson, 1927), which holds near 0 and 1 and for few rows too."""
    middle = (share + _Z**2 / (2 * rows)) / (1 + _Z**2 / rows)
    half = _Z / (1 + _Z**2 / rows) * math.sqrt(share * (1 - share) / rows + _Z**2 / (4 * rows**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def paired(
    task: Task,
    metric: str,
    outputs: Outputs,
    targets: Array,
    others: Outputs,
    other_targets: Array,
    *,
    reference: str,
    seed: int = 0,
) -> MetricDrop:
    """A metric of two models on the same rows, in the same order.

    Where the metric is a share of right rows the test is McNemar's, exact: of the rows that one model alone has
    right, each is a coin's throw if there is no difference (McNemar, 1947), and the interval is Tango's score interval
    (Tango, 1998), which few rows leave wide even where no two answers differ. For any other metric both are of a paired
    bootstrap over rows (Efron and Tibshirani, 1993), as wide at least as Tango's where the resamples do not vary. Where
    most resamples lack a label there is neither.

    Args:
        task: Scores the rows.
        metric: One of the task's.
        outputs: The model's raw outputs, rows first.
        targets: The rows' targets, in the model's order of labels.
        others: The other model's raw outputs.
        other_targets: The same targets in the other model's order of labels.
        reference: The other model's name.
        seed: Of the bootstrap.

    Raises:
        DataError: the metric is not defined on these rows.
    """
    ours, theirs = value(task, metric, outputs, targets), value(task, metric, others, other_targets)
    right, other_right = _right(task, metric, outputs, targets), _right(task, metric, others, other_targets)
    if right is not None and other_right is not None:
        lost, won = int((other_right & ~right).sum()), int((right & ~other_right).sum())
        low, high = tango(lost, won, right.size)
        drop, test, p_value = (lost - won) / right.size, MCNEMAR, mcnemar(lost, won)
    else:
        sign = -1 if tasks.lower_is_better(task, metric) else 1

        def resampled(rows: Array) -> float:
            theirs = _score(task, metric, others, other_targets, rows)
            return sign * (theirs - _score(task, metric, outputs, targets, rows))

        drop, test = sign * (theirs - ours), BOOTSTRAP
        try:
            drops = _resampled(outputs, seed, resampled)
        except DataError:  # too few rows for a test
            return MetricDrop(reference, theirs, drop, None, None, None, test, len(targets))
        p_value = _two_sided(drops)
        low, high = _bounds(drops)
        if low == high and not tasks.lower_is_better(task, metric):
            low, high = (drop + end for end in tango(0, 0, len(targets)))
    return MetricDrop(reference, theirs, drop, low, high, p_value, test, len(targets))


def decide(found: MetricDrop, allowed: float) -> str:
    """Whether a drop keeps a limit.

    `REGRESSION` where it is over the limit and real, `ACCEPT` where the upper end of its interval is within the limit,
    `INCONCLUSIVE` between, and `ANOMALOUS` where a figure is no finite number.
    """
    figures = (found.drop, found.low, found.high, found.p_value)
    if not all(math.isfinite(figure) for figure in figures if figure is not None):
        return ANOMALOUS
    if found.high is None or found.p_value is None:
        return INCONCLUSIVE
    if found.drop > allowed + ROUNDING:
        return REGRESSION if found.p_value < SIGNIFICANT else INCONCLUSIVE
    return ACCEPT if found.high <= allowed + ROUNDING else INCONCLUSIVE


def rows_wanted(found: MetricDrop, allowed: float) -> int | None:
    """About how many rows would decide if the drop stays what it is: an interval narrows with the root of the rows.

    Given in hundreds; `None` where that is no useful number: no more than there are, or a million and more.
    """
    if found.low is None or found.high is None:
        return None
    half = (found.high - found.low) / 2
    room = found.drop if found.drop > allowed else allowed - found.drop
    wanted = found.rows * (half / room) ** 2 if room > 0 else math.inf
    return math.ceil(wanted / 100) * 100 if found.rows < wanted < 1e6 else None


def tango(lost: int, won: int, rows: int) -> tuple[float, float]:
    """The 95 % score interval of how much smaller a share of paired rows is (Tango, 1998).

    Both ends are where the score test of that difference is just significant, found by bisection.

    Args:
        lost: Rows that the other model alone has right.
        won: Rows that this model alone has right.
        rows: All of them.
    """

    def score(difference: float) -> float:
        a = 2 * rows
        b = -lost - won + (2 * rows - lost + won) * difference
        c = -won * difference * (1 - difference)
        nuisance = (math.sqrt(max(0.0, b * b - 4 * a * c)) - b) / (2 * a)
        spread = rows * (2 * nuisance + difference * (1 - difference))
        distance = lost - won - rows * difference
        if spread <= 0:
            return math.copysign(math.inf, distance) if distance else 0.0
        return distance / math.sqrt(spread)

    observed = (lost - won) / rows
    return _crossing(score, _Z, -1.0, observed), _crossing(score, -_Z, observed, 1.0)


def _crossing(falling: Callable[[float], float], value: float, low: float, high: float) -> float:
    """Where a function that falls from `low` to `high` passes a value."""
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if falling(middle) > value else (low, middle)
    return (low + high) / 2


def mcnemar(lost: int, won: int) -> float:
    """The two-sided p-value of McNemar's exact test: the binomial test of `lost` among `lost + won` at one half."""
    return min(1.0, 2 * binomial_tail(min(lost, won), lost + won, 0.5))


def binomial_tail(at_most: int, trials: int, chance: float) -> float:
    """Probability of `at_most` or fewer events in `trials`, each with the given chance in (0, 1).

    It equals the regularised incomplete beta function I(1 - chance; trials - at_most, at_most + 1). Its terms
    are taken as logarithms, so that thousands of trials do not underflow.
    """
    if at_most >= trials:
        return 1.0
    log_chance, log_rest = math.log(chance), math.log1p(-chance)
    log_trials = math.lgamma(trials + 1)
    return math.fsum(
        math.exp(
            log_trials
            - math.lgamma(events + 1)
            - math.lgamma(trials - events + 1)
            + events * log_chance
            + (trials - events) * log_rest
        )
        for events in range(at_most + 1)
    )


def _right(task: Task, metric: str, outputs: Outputs, targets: Array) -> npt.NDArray[np.bool_] | None:
    """Which rows are right, `(rows,)`, where the metric is the share of such rows; else `None`."""
    predictions = task.predictions(outputs) if metric in SHARES else None
    if predictions is None:
        return None
    same = np.asarray(predictions == targets)
    return same if same.ndim == 1 else np.asarray(same.all(axis=1))


def _resampled(outputs: Outputs, seed: int, figure: Callable[[Array], float]) -> npt.NDArray[np.float64]:
    """A figure of many resamples of the rows; those in which it is not defined are left out."""
    rng = np.random.default_rng(seed)
    rows = len(next(iter(outputs.values())))
    cells = sum(array.size for array in outputs.values())
    times = min(max(CELLS // cells, RESAMPLES[0]), RESAMPLES[1])
    found = np.array([figure(rng.integers(0, rows, rows)) for _ in range(times)])
    kept = found[~np.isnan(found)]
    if kept.size < times / 2:
        raise DataError(f"{rows} evaluation rows are too few: most resamples of them lack a label; give more rows")
    return np.asarray(kept)


def _score(task: Task, metric: str, outputs: Outputs, targets: Array, rows: Array) -> float:
    return task.score({name: array[rows] for name, array in outputs.items()}, targets[rows]).get(metric, math.nan)


def _bounds(figures: npt.NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.quantile(figures, _INTERVAL)
    return float(low), float(high)


def _two_sided(drops: npt.NDArray[np.float64]) -> float:
    """Twice the smaller share of resamples on either side of no difference, never quite zero."""
    fewer = min(int((drops <= 0).sum()), int((drops >= 0).sum()))
    return min(1.0, 2 * (fewer + 1) / (drops.size + 1))
