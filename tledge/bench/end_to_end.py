"""One raw value after another through a whole bundle: preprocessing, the run, and the answer, each timed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tledge import inputs
from tledge.artifacts import EndToEnd
from tledge.bench import stats
from tledge.bench.latency import MIN_ROUNDS, WARMUP_SHARE, estimates, no_garbage_collection, order
from tledge.bundle import Manifest
from tledge.evaluate import Run
from tledge.progress import Progress, silent
from tledge.runtime.predictor import checked
from tledge.tasks import Task


@dataclass(frozen=True, slots=True)
class Chain:
    """What one value goes through, part after part, each of which gets what the one before it gave."""

    encode: Callable[[Any], Any]
    run: Callable[[Any], Any]
    decode: Callable[[Any], object]


def chain(encoder: inputs.Input, run: Run, task: Task, manifest: Manifest) -> Chain:
    """What `Predictor.predict` does with one value."""
    each = checked(run, task, manifest.labels)
    return Chain(
        encode=lambda value: encoder.passes([value]),
        run=lambda passes: ([each(tensors) for tensors in passes[0]], passes[1]),
        decode=lambda outputs: task.decode(encoder.whole(*outputs), manifest.labels),
    )


def measure(
    candidates: Mapping[str, Chain],
    values: Sequence[Any],
    *,
    threads: int,
    percentile: float = 90,
    duration_s: float = 120.0,
    warmup: int = 5,
    progress: Progress = silent,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> tuple[EndToEnd, ...]:
    """Time of the parts and of the whole for each candidate, interleaved as in `latency.measure`.

    Each round takes the next value, the same for every candidate, and starts over after the last one. There are as
    many rounds as the percentile needs, at least 100, or as many as fit into the time limit, at least one. Garbage
    collection is off meanwhile. No sample is thrown away.

    Args:
        candidates: What to time, by name; at least one.
        values: Raw values, such as texts or images; at least one.
        threads: Threads of one run.
        percentile: The percentile of the whole that there shall be enough samples for, in percent.
        duration_s: Time limit, warm-up included.
        warmup: Rounds run before and not counted; fewer when they take a tenth of the limit, at least one.
        progress: Shows the rounds.
        clock: Nanoseconds that only grow.

    Raises:
        InputError: a value cannot be encoded.
    """
    names = list(candidates)
    rounds = max(stats.samples_needed(percentile), MIN_ROUNDS)
    parts: dict[str, list[tuple[float, float, float]]] = {name: [] for name in names}
    with no_garbage_collection():
        start = clock()  # collecting what there is may take long in a large process
        for round_ in range(warmup):
            if round_ and clock() - start > WARMUP_SHARE * duration_s * 1e9:
                break
            for each in candidates.values():
                _time(each, values[round_ % len(values)], clock)
        with progress("Timing end to end", total=rounds) as advance:
            for round_ in range(rounds):
                if round_ and clock() - start > duration_s * 1e9:
                    break
                for name in order(names, round_):
                    parts[name].append(_time(candidates[name], values[round_ % len(values)], clock))
                advance(1)
    return tuple(_summarize(name, threads, parts[name], percentile) for name in names)


def _time(each: Chain, value: Any, clock: Callable[[], int]) -> tuple[float, float, float]:
    start = clock()
    tensors = each.encode(value)
    encoded = clock()
    outputs = each.run(tensors)
    ran = clock()
    each.decode(outputs)
    return (encoded - start) / 1e6, (ran - encoded) / 1e6, (clock() - ran) / 1e6


def _summarize(name: str, threads: int, parts: Sequence[tuple[float, float, float]], percentile: float) -> EndToEnd:
    preprocess, run, postprocess = (float(median) for median in np.median(parts, axis=0))
    known, missing = estimates([sum(each) for each in parts], percentile)
    return EndToEnd(
        candidate=name,
        threads=threads,
        samples=len(parts),
        preprocess_ms=preprocess,
        run_ms=run,
        postprocess_ms=postprocess,
        percentiles_ms=known,
        missing=missing,
    )
