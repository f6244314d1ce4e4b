"""Whether the percentiles that tledge prints are at or above the true ones: simulated latencies of known distributions.

    python benchmarks/percentiles.py [--trials 10000] [--seed 0]

Each trial draws samples and asks `tledge.bench.stats.percentile`, the function that every report uses, with exactly as
many samples as the percentile needs and with more. Prints a Markdown table: the share of trials in which the figure is
at or above the true percentile, the share that is expected whatever the distribution, how far above it the figure is in
the median trial, and the share that the plain sample percentile reaches. Fails when a share is below 0.99.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from tledge.bench import stats
from tledge.significance import binomial_tail

PERCENTILES = (90, 95, 99)
TIMES_NEEDED = (1, 2, 5)
"""Sample counts, as multiples of what a percentile needs."""
AT_LEAST = 0.99
PARETO_SHAPE = 1.5
"""With this shape the mean exists and the variance does not."""
BUSY_SHARE, BUSY_TIMES, SPREAD = 0.07, 3.0, 0.05
"""A run in fourteen finds the machine busy and takes three times as long; either kind spreads by 5 %."""

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Latencies:
    """A distribution of latencies: how to draw an array of a shape, and its true quantile at a probability."""

    draw: Callable[[np.random.Generator, tuple[int, int]], Array]
    quantile: Callable[[float], float]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    start = time.perf_counter()
    shares = []
    print("| latencies | percentile | samples | at or above the true one | expected | above it by | plain percentile |")
    print("|---|---|---|---|---|---|---|")
    for name, latencies in DISTRIBUTIONS.items():
        for percent in PERCENTILES:
            for times in TIMES_NEEDED:
                count = times * stats.samples_needed(percent)
                share, excess, plain = try_out(latencies, percent, count, options.trials, rng)
                shares.append(share)
                print(
                    f"| {name} | p{percent} | {count:,} | {share:.4f} | {expected(count, percent):.4f} | "
                    f"{excess:.1%} | {plain:.3f} |"
                )
    print(f"\n{options.trials:,} trials a row, seed {options.seed}, {time.perf_counter() - start:.0f} s")
    print(f"lowest share: {min(shares):.4f}, at least {AT_LEAST} is asked for")
    return 0 if min(shares) >= AT_LEAST else 1


def try_out(
    latencies: Latencies, percent: float, count: int, trials: int, rng: np.random.Generator
) -> tuple[float, float, float]:
    """Share of trials at or above the true percentile, the median excess over it, and the plain percentile's share."""
    true = latencies.quantile(percent / 100)
    samples = latencies.draw(rng, (trials, count))
    found = np.array([stats.percentile(row, percent) for row in samples])
    plain = np.quantile(samples, percent / 100, axis=1)
    return float(np.mean(found >= true)), float(np.median(found) / true - 1), float(np.mean(plain >= true))


def expected(count: int, percent: float) -> float:
    """The chance that the estimate is at or above the true percentile, the same for every continuous distribution."""
    rank = stats.rank_from_top(count, percent)
    return 1 - binomial_tail(rank - 1, count, 1 - percent / 100)


def _draw_busy(rng: np.random.Generator, shape: tuple[int, int]) -> Array:
    centre = np.where(rng.random(shape) < BUSY_SHARE, BUSY_TIMES, 1.0)
    return centre * np.exp(SPREAD * rng.standard_normal(shape))


def _busy_quantile(probability: float) -> float:
    """By bisection on the distribution function: the mixture has no quantile in closed form."""
    normal = NormalDist()
    low, high = 0.1, 10.0
    for _ in range(100):
        middle = (low + high) / 2
        quiet = normal.cdf(np.log(middle) / SPREAD)
        busy = normal.cdf(np.log(middle / BUSY_TIMES) / SPREAD)
        below = (1 - BUSY_SHARE) * quiet + BUSY_SHARE * busy < probability
        low, high = (middle, high) if below else (low, middle)
    return high


DISTRIBUTIONS = {
    "log-normal": Latencies(
        lambda rng, shape: rng.lognormal(sigma=0.25, size=shape),
        lambda probability: float(np.exp(0.25 * NormalDist().inv_cdf(probability))),
    ),
    "bimodal": Latencies(_draw_busy, _busy_quantile),
    "heavy-tailed (Pareto)": Latencies(
        lambda rng, shape: 1 + rng.pareto(PARETO_SHAPE, shape),
        lambda probability: (1 - probability) ** (-1 / PARETO_SHAPE),
    ),
}


if __name__ == "__main__":
    sys.exit(main())
