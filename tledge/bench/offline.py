"""Scenario `offline`: how many rows a second, when all of them are at hand and may be put into batches."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from tledge.artifacts import Throughput
from tledge.bench import latency, stats
from tledge.evaluate import Array, Run
from tledge.progress import Progress, silent


def measure(
    candidates: Mapping[str, Run],
    batches: Mapping[int, Mapping[str, Array]],
    *,
    sequence: int | None,
    threads: int,
    duration_s: float = 120.0,
    progress: Progress = silent,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> tuple[Throughput, ...]:
    """Rows a second of every candidate at every batch size, all of them interleaved as in `latency.measure`.

    Args:
        candidates: What runs, by name; at least one.
        batches: Input tensors by batch size; at least one.
        sequence: Tokens of a row, `None` for inputs without a length.
        threads: Threads of one run.
        duration_s: Time limit; 100 runs of each are made if they fit.
        progress: Shows the rounds.
        clock: Nanoseconds that only grow.
    """
    runs = {
        f"{name}, batch {batch}": functools.partial(run, feeds)
        for name, run in candidates.items()
        for batch, feeds in batches.items()
    }
    samples = latency.measure(
        runs,
        reference=next(iter(runs)),
        percentile=50,
        duration_s=duration_s,
        description="Timing batches",
        progress=progress,
        clock=clock,
    )
    return tuple(
        throughput(samples[f"{name}, batch {batch}"], candidate=name, batch=batch, sequence=sequence, threads=threads)
        for name in candidates
        for batch in batches
    )


def throughput(
    samples: Sequence[float], *, candidate: str, batch: int, sequence: int | None, threads: int, seed: int = 0
) -> Throughput:
    """Rows a second of one candidate at one batch size, with the 95 % interval of a bootstrap over runs.

    It is the number of all rows divided by the time of all runs, so that a slow run counts with all its time.

    Args:
        samples: Latencies of runs of one batch each, in milliseconds, as `latency.measure` gives them.
        candidate: What ran.
        batch: Rows of one run.
        sequence: Tokens of a row, `None` for inputs without a length.
        threads: Threads of one run.
        seed: Of the bootstrap.
    """
    low_ms, high_ms = stats.mean_interval(samples, seed=seed)
    mean_ms = sum(samples) / len(samples)
    return Throughput(
        candidate=candidate,
        batch=batch,
        sequence=sequence,
        threads=threads,
        runs=len(samples),
        rows_per_second=1e3 * batch / mean_ms,
        low=1e3 * batch / high_ms,
        high=1e3 * batch / low_ms,
    )


def best_batches(rows: Iterable[Throughput]) -> list[Throughput]:
    """Of each candidate, length and number of threads the batch size to use, in the order in which they come.

    It is the smallest one whose interval reaches the fastest one's: a larger batch would only make each row wait.
    """
    groups: dict[tuple[str, int | None, int], list[Throughput]] = {}
    for row in rows:
        groups.setdefault((row.candidate, row.sequence, row.threads), []).append(row)
    return [_best(group) for group in groups.values()]


def _best(group: Sequence[Throughput]) -> Throughput:
    fastest = max(group, key=lambda row: row.rows_per_second)
    as_fast = [row for row in group if row.high >= fastest.low]
    return min(as_fast, key=lambda row: row.batch)
