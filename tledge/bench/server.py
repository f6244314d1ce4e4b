"""Scenario `server`: requests that arrive at random and wait in line for the one session."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tledge.artifacts import ServerLoad
from tledge.bench import stats
from tledge.bench.latency import estimates, key, no_garbage_collection
from tledge.errors import RecipeError
from tledge.progress import Progress, silent

MORE_THAN_NEEDED = 2
"""Requests for each one that the percentile needs, so that a few may be late and the bound still holds."""
FULL = 0.95
"""Utilization from which on the waiting time is that of a full server."""
_SPIN_S = 0.001


@dataclass(frozen=True, slots=True)
class Served:
    """What happened to each request, in the order of arrival.

    `latencies_ms` run from arrival to answer; those of the last `unanswered` requests, which were still in line when
    serving ended, are how long they had waited by then. `busy_s` is the time in runs, `elapsed_s` all the time.
    """

    latencies_ms: tuple[float, ...]
    unanswered: int
    busy_s: float
    elapsed_s: float


def serve(
    run: Callable[[], object],
    *,
    candidate: str,
    batch: int,
    sequence: int | None,
    threads: int,
    rate: float,
    bound_ms: float,
    percentile: float = 99,
    requests: int | None = None,
    duration_s: float = 120.0,
    seed: int = 0,
    warmup: int = 5,
    clock: Callable[[], int] = time.perf_counter_ns,
    sleep: Callable[[float], None] | None = None,
    progress: Progress = silent,
) -> ServerLoad:
    """How one session stands a load of requests at a given rate: Poisson arrivals, served first come, first served.

    The percentile is within the bound by the rule of `stats.within_bound`. That rule takes requests as independent of
    each other, as the MLPerf inference rules do; near overload, where one late request makes the next ones late, it
    is surer of itself than it may be.

    Args:
        run: One request: a run of one batch.
        candidate: What runs.
        batch: Rows of one request.
        sequence: Tokens of a row, `None` for inputs without a length.
        threads: Threads of one run.
        rate: Requests a second, on average.
        bound_ms: Latency, waiting included, that the percentile shall keep.
        percentile: In percent, in (50, 100).
        requests: How many; by default twice as many as the percentile needs. Those that would arrive after
            `duration_s` are left out.
        duration_s: Time in which requests arrive. An overloaded server gets as long again, and at least the bound, to
            answer what is in line; what it does not answer counts as late.
        seed: Of the arrivals.
        warmup: Runs before the first request.
        clock: Nanoseconds that only grow.
        sleep: Waits for a number of seconds; by default as exactly as this process can, with the last millisecond
            spent watching the clock.
        progress: Shows the requests.

    Raises:
        RecipeError: rate, bound, duration or number of requests is not above 0, or no request arrives in time.
    """
    asked = MORE_THAN_NEEDED * stats.samples_needed(percentile) if requests is None else requests
    _check(rate=rate, bound_ms=bound_ms, duration_s=duration_s, requests=asked)
    due = arrivals(rate, asked, seed)
    due = due[due <= duration_s]
    if not due.size:
        raise RecipeError(f"no request arrives within {duration_s:g} s at {rate:g} requests a second: raise either")
    for _ in range(warmup):
        run()
    served = work_off(
        run,
        due,
        end_s=duration_s + max(duration_s, bound_ms / 1e3),
        clock=clock,
        sleep=sleep or pause,
        progress=progress,
    )
    latencies = served.latencies_ms
    known, missing = estimates(latencies, percentile)
    return ServerLoad(
        candidate=candidate,
        batch=batch,
        sequence=sequence,
        threads=threads,
        rate=rate,
        achieved_rate=(len(latencies) - served.unanswered) / served.elapsed_s,
        utilization=served.busy_s / served.elapsed_s,
        requests=len(latencies),
        percentile=key(percentile),
        bound_ms=bound_ms,
        within_bound=sum(latency <= bound_ms for latency in latencies) / len(latencies),
        met=stats.within_bound(bound_ms, latencies, percentile),
        percentiles_ms=known,
        missing=missing,
    )


def arrivals(rate: float, requests: int, seed: int = 0) -> npt.NDArray[np.float64]:
    """Seconds from the start at which requests arrive, `(requests,)`: gaps are exponential, of mean 1 / rate."""
    return np.cumsum(np.random.default_rng(seed).exponential(1 / rate, requests))


def work_off(
    run: Callable[[], object],
    due_s: npt.NDArray[np.float64],
    *,
    end_s: float,
    clock: Callable[[], int],
    sleep: Callable[[float], None],
    progress: Progress = silent,
) -> Served:
    """Runs once for each request, in order, none before it has arrived.

    Args:
        run: One request.
        due_s: Arrivals in seconds from the start, growing, `(requests,)`.
        end_s: When serving ends, whatever is still in line.
        clock: Nanoseconds that only grow.
        sleep: Waits for a number of seconds.
        progress: Shows the requests.
    """
    due = [round(second * 1e9) for second in due_s]
    latencies: list[float] = []
    busy = now = 0
    with no_garbage_collection(), progress("Serving requests", total=len(due)) as advance:
        start = clock()
        for arrival in due:
            now = clock() - start
            if now > end_s * 1e9:
                break
            if now < arrival:
                sleep((arrival - now) / 1e9)
                now = clock() - start
            begin = now
            run()
            now = clock() - start
            busy += now - begin
            latencies.append(max(now - arrival, 1) / 1e6)
            advance(1)
    waiting = due[len(latencies) :]
    latencies += [(now - arrival) / 1e6 for arrival in waiting]
    return Served(tuple(latencies), len(waiting), busy / 1e9, max(now, 1) / 1e9)


def overloaded(load: ServerLoad) -> bool:
    """Whether the session was so busy that requests waited mainly for each other."""
    return load.utilization >= FULL


def pause(seconds: float) -> None:
    """Wait, to within microseconds: a sleep alone comes back late by some tenths of a millisecond or more."""
    end = time.perf_counter() + seconds
    if seconds > _SPIN_S:
        time.sleep(seconds - _SPIN_S)
    while time.perf_counter() < end:
        pass


def _check(**values: float) -> None:
    for name, value in values.items():
        if not 0 < value < float("inf"):
            raise RecipeError(f"{name}: expected a number above 0, got {value:g}")
