"""Latency, memory and placement of graphs on this machine, with what is needed to trust the figures."""

from __future__ import annotations

import datetime
import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tledge.artifacts import BenchResult, Footprint, Latency
from tledge.bench import latency, machine, memory
from tledge.bench.latency import setting
from tledge.bench.notes import notes
from tledge.evaluate import Array, Run
from tledge.progress import Progress, silent
from tledge.runtime.session import open_session, session_run

__all__ = ["Feeds", "run", "setting"]

Feeds = Callable[[int, int | None], Mapping[str, Array]]
"""Input tensors by name for a batch size and a sequence length, `None` for inputs without one."""


def run(
    graphs: Mapping[str, Path],
    make_feeds: Feeds,
    *,
    reference: str,
    batches: Sequence[int] = (1,),
    lengths: Sequence[int | None] = (32, 128),
    threads: Sequence[int] = (1,),
    percentile: float = 90,
    duration_s: float = 120.0,
    provider: str = "cpu",
    extra: Mapping[str, Callable[[int], Run]] | None = None,
    repeats: int = memory.REPEATS,
    progress: Progress = silent,
) -> BenchResult:
    """Every candidate at every setting, interleaved within a setting, and each graph's footprint.

    Rows come by threads, then batch, then length, then candidate. Footprints are taken at the first of each.

    Args:
        graphs: ONNX files by candidate name.
        make_feeds: Gives the input tensors of a setting; all candidates get the same ones.
        reference: The candidate that the others are compared with.
        batches: Rows of one run.
        lengths: Tokens of a row; `[None]` for inputs without a length.
        threads: Threads of one run.
        percentile: The percentile to take enough samples for, in percent.
        duration_s: Time limit for one setting.
        provider: Execution provider of the graphs.
        extra: Candidates that are no graphs, by name: given the number of threads, each gives its run. A
            number of threads that is global to the process is theirs to set.
        repeats: Fresh processes for one footprint; 0 takes none.
        progress: Shows the work.

    Raises:
        RecipeError: the reference is not among the candidates.
        BundleError: a graph cannot be loaded or run.
        InputError: the provider is not available.
    """
    others = extra or {}
    assert not graphs.keys() & others.keys(), "candidates need different names"
    latency.check_reference(reference, {**graphs, **others})
    here = machine.describe()
    created = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    cost = functools.partial(memory.footprint, threads=threads[0], provider=provider, repeats=repeats)
    costs = functools.partial(cost, feeds=make_feeds(batches[0], lengths[0]))
    footprints = _footprints(graphs, costs, progress) if repeats else ()
    rows: list[Latency] = []
    for count in threads:
        runs = {n: session_run(open_session(p, provider=provider, threads=count)) for n, p in graphs.items()}
        runs |= {name: open_extra(count) for name, open_extra in others.items()}
        for batch, length in itertools.product(batches, lengths):
            feeds = make_feeds(batch, length)
            samples = latency.measure(
                {name: functools.partial(candidate, feeds) for name, candidate in runs.items()},
                reference=reference,
                percentile=percentile,
                duration_s=duration_s,
                description=f"Timing {setting(batch, length, count)}",
                progress=progress,
            )
            row = functools.partial(latency.summarize, samples, reference=reference, percentile=percentile)
            rows.extend(row(candidate=name, batch=batch, sequence=length, threads=count) for name in runs)
    return BenchResult(here, tuple(rows), footprints, notes(here, rows, percentile), created)


def _footprints(
    graphs: Mapping[str, Path], measure: Callable[..., Footprint], progress: Progress
) -> tuple[Footprint, ...]:
    found = []
    with progress("Loading in fresh processes", total=len(graphs)) as advance:
        for name, path in graphs.items():
            found.append(measure(path, candidate=name))
            advance(1)
    return tuple(found)
