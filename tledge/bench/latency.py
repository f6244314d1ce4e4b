"""Interleaved latencies: every candidate runs once a round, so that the machine's drift touches all alike."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from tledge.artifacts import Latency
from tledge.bench import stats
from tledge.errors import RecipeError, did_you_mean
from tledge.progress import Progress, silent

PERCENTILES = (50, 90, 95, 99)
MIN_ROUNDS = 100
WARMUP_SHARE = 0.1
"""The part of the time limit that warming up may take."""


def measure(
    candidates: Mapping[str, Callable[[], object]],
    *,
    reference: str,
    percentile: float = 90,
    duration_s: float = 120.0,
    warmup: int = 5,
    description: str = "Timing",
    progress: Progress = silent,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> dict[str, list[float]]:
    """Latencies of each candidate in milliseconds, one a round, in the rounds' order.

    There are as many rounds as the percentile needs, at least 100, or as many as fit into the time limit, at
    least one. Garbage collection is off meanwhile. No sample is thrown away.

    Args:
        candidates: What to time, by name; each call is one run.
        reference: The candidate that the others are compared with; it must be among them.
        percentile: The percentile that there shall be enough samples for, in percent.
        duration_s: Time limit, warm-up included.
        warmup: Rounds run before and not counted; fewer when they take a tenth of the limit, at least one.
        description: What the progress bar says.
        progress: Shows the rounds.
        clock: Nanoseconds that only grow.

    Raises:
        RecipeError: the reference is not among the candidates.
    """
    check_reference(reference, candidates)
    rounds = max(stats.samples_needed(percentile), MIN_ROUNDS)
    samples: dict[str, list[float]] = {name: [] for name in candidates}
    with no_garbage_collection():
        start = clock()  # collecting what there is may take long in a large process
        for round_ in range(warmup):
            if round_ and clock() - start > WARMUP_SHARE * duration_s * 1e9:
                break
            for run in candidates.values():
                run()
        with progress(description, total=rounds) as advance:
            for round_ in range(rounds):
                if round_ and clock() - start > duration_s * 1e9:
                    break
                for name in order(list(candidates), round_):
                    samples[name].append(_time(candidates[name], clock))
                advance(1)
    return samples


def order(names: Sequence[str], round_: int) -> list[str]:
    """The names in the order in which a round runs them.

    Odd rounds go backwards and every second round starts one name later (two candidates: AB BA BA AB): within
    `2 * len(names)` rounds each name stands equally often at each place.
    """
    turn = round_ // 2 % len(names)
    turned = [*names[turn:], *names[:turn]]
    return turned[::-1] if round_ % 2 else turned


def summarize(
    samples: Mapping[str, Sequence[float]],
    *,
    candidate: str,
    reference: str,
    batch: int,
    sequence: int | None,
    threads: int,
    percentile: float = 90,
) -> Latency:
    """One candidate's row of an interleaved run, with its ratio to the reference (None for that itself).

    Args:
        samples: What `measure` gave, in milliseconds.
        candidate: The row's candidate.
        reference: The candidate to compare with.
        batch: Rows of one run.
        sequence: Tokens of a row, `None` for inputs without a length.
        threads: Threads of one run.
        percentile: Percentile asked for, in percent; it comes beside p50, p90, p95 and p99.
    """
    own = samples[candidate]
    percentiles, missing = estimates(own, percentile)
    low, high = stats.median_interval(own) if "p50" in percentiles else (None, None)
    return Latency(
        candidate=candidate,
        batch=batch,
        sequence=sequence,
        threads=threads,
        samples=len(own),
        mean_ms=sum(own) / len(own),
        percentiles_ms=percentiles,
        missing=missing,
        against=None if candidate == reference else stats.paired_ratio(own, samples[reference], name=reference),
        median_low_ms=low,
        median_high_ms=high,
        percentiles_low_ms=_low_bounds(own, percentiles),
    )


def _low_bounds(samples: Sequence[float], percentiles: Mapping[str, float]) -> dict[str, float]:
    """Lower bounds of the percentiles above p50, by name."""
    bounds = {name: stats.percentile_low(samples, float(name[1:])) for name in percentiles if name != "p50"}
    return {name: bound for name, bound in bounds.items() if bound is not None}


def estimates(samples: Sequence[float], percentile: float) -> tuple[dict[str, float], dict[str, int]]:
    """Percentiles by name, and for those without enough samples the number that each needs.

    Args:
        samples: Of one candidate, in any unit.
        percentile: Percentile asked for, in percent; it comes beside p50, p90, p95 and p99.
    """
    asked = sorted({*PERCENTILES, percentile})
    found = {key(each): stats.percentile(samples, each) for each in asked}
    known = {name: value for name, value in found.items() if value is not None}
    return known, {key(each): stats.samples_needed(each) for each in asked if key(each) not in known}


def setting(batch: int, sequence: int | None, threads: int, provider: str = "cpu") -> str:
    """A setting in words: `batch 1, length 32, 1 thread`, or `batch 1, 1 thread, cuda`; the CPU is not named."""
    length = "" if sequence is None else f", length {sequence}"
    where = "" if provider == "cpu" else f", {provider}"
    return f"batch {batch}{length}, {threads} thread{'' if threads == 1 else 's'}{where}"


def key(percentile: float) -> str:
    """The name of a percentile in results: `p90`, `p99.9`."""
    return f"p{percentile:g}"


def check_reference(reference: str, candidates: Mapping[str, object]) -> None:
    """Nothing, when the reference is a candidate.

    Raises:
        RecipeError: it is not; the message lists the candidates.
    """
    if reference not in candidates:
        known = ", ".join(candidates) or "none"
        hint = did_you_mean(reference, candidates)
        raise RecipeError(f"the reference {reference!r} is not measured: candidates are {known}{hint}")


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """A stretch in which no garbage is collected, so that no sample has to wait for it."""
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _time(run: Callable[[], object], clock: Callable[[], int]) -> float:
    start = clock()
    run()
    return max(clock() - start, 1) / 1e6  # a coarse clock may not have moved, and a ratio needs a positive number
